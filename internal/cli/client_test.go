package cli

import (
	"testing"
	"time"
)

func TestWhenAFileWasWritten(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		by   string
		at   time.Time
		ago  time.Duration
		want string
	}{
		{"v0.2.0", at, 0, "written by fairlead v0.2.0 at 2026-03-04T04:06:07Z, 0s ago"},
		{"v0.2.0", at, 62*time.Second + time.Millisecond, "written by fairlead v0.2.0 at 2026-03-04T04:06:07Z, 1m2s ago"},
		{"v0.2.0", at, 119 * time.Minute, "written by fairlead v0.2.0 at 2026-03-04T04:06:07Z, 1 h ago"},
		{"", at, 49 * time.Hour, "written by an earlier version of fairlead at 2026-03-04T04:06:07Z, 2 days ago"},
		{"v0.2.0", at, -time.Hour, "written by fairlead v0.2.0 at 2026-03-04T04:06:07Z, which is in the future here: one of both clocks is wrong"},
		{"", time.Time{}, 0, "written by an earlier version of fairlead, which did not say when"},
		{"v\x1b[2J", time.Time{}, 0, `written by fairlead v\x1b[2J, which did not say when`},
	} {
		if got := written(c.by, c.at, c.at.Add(c.ago)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
