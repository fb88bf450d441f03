package agent

import "time"

// jump is how far the wall clock must leave the monotonic one, within the time
// between two looks, to have been set: what keeps it in step moves it by less
// than a thousandth (adjtimex(2)).
const jump = 500 * time.Millisecond

// A clock notices that the wall clock was set, and that the machine slept, which
// the monotonic clock does not count (clock_gettime(2)).
type clock struct {
	wall      func() time.Time
	monotonic func() time.Duration
	lastWall  time.Time
	lastRead  time.Duration
}

func newClock() *clock {
	start := time.Now()
	c := &clock{wall: func() time.Time { return time.Now().Round(0) }, monotonic: func() time.Duration { return time.Since(start) }}
	c.jumped()
	return c
}

// jumped returns by how much the wall clock was set since the last call; 0: it
// was not.
func (c *clock) jumped() time.Duration {
	wall, read := c.wall(), c.monotonic()
	by := wall.Sub(c.lastWall) - (read - c.lastRead)
	first := c.lastWall.IsZero()
	c.lastWall, c.lastRead = wall, read
	if first || by.Abs() < jump {
		return 0
	}
	return by
}
