package pressure

import (
	"time"

	"golang.org/x/sys/unix"
)

// A credit is CPU time that may be spent: it grows by a share of the time that
// passes, and up to what that makes in a minute.
type credit struct {
	share float64 // of one core
	left  time.Duration
	at    time.Time
}

const creditFor = time.Minute

// Shares of one core. Counting goes on all the time, listing only when it must.
const (
	countingShare = 0.001
	listingShare  = 0.01
)

func newCredit(share float64, now time.Time) credit {
	c := credit{share: share, at: now}
	c.left = c.most()
	return c
}

func (c *credit) most() time.Duration { return time.Duration(c.share * float64(creditFor)) }

// grow lets c grow until now.
func (c *credit) grow(now time.Time) {
	c.left = min(c.most(), c.left+time.Duration(c.share*float64(now.Sub(c.at))))
	c.at = now
}

// spend takes what was spent, and returns it in seconds. Debts are waited for.
func (c *credit) spend(cost time.Duration) float64 {
	c.left -= cost
	return cost.Seconds()
}

// until is how long it takes until there is as much as is needed. More than
// there can be counts as all that there can be.
func (c *credit) until(need time.Duration) time.Duration {
	return max(0, time.Duration(float64(min(need, c.most())-c.left)/c.share))
}

// cpuTime is the CPU time that the calling thread has taken.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
