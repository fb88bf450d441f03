package agent

import (
	"testing"
	"time"
)

func TestAClockThatIsSetIsNoticedOnce(t *testing.T) {
	wall, monotonic := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), time.Hour
	c := &clock{wall: func() time.Time { return wall }, monotonic: func() time.Duration { return monotonic }}
	for _, step := range []struct {
		name            string
		wall, monotonic time.Duration
		want            time.Duration
	}{
		{"at first", 0, 0, 0},
		{"a second later", time.Second, time.Second, 0},
		{"kept in step", 999 * time.Millisecond, time.Second, 0},
		{"set back", -time.Hour + time.Second, time.Second, -time.Hour},
		{"after that", time.Second, time.Second, 0},
		{"set ahead", 24*time.Hour + time.Second, time.Second, 24 * time.Hour},
		{"awake after a night", 8 * time.Hour, time.Second, 8*time.Hour - time.Second},
		{"after that", time.Second, time.Second, 0},
	} {
		wall, monotonic = wall.Add(step.wall), monotonic+step.monotonic
		if got := c.jumped(); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}
