package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// A Closing is who closes a connection first, and so who holds it in TIME_WAIT.
type Closing int

// Ways to close. Both is at once, each without having heard of the other's.
const (
	ServerFirst Closing = iota
	ClientFirst
	Both
)

// Serve accepts connections until l is shut down, and closes each.
func (c Closing) Serve(l int) error {
	b := make([]byte, 1)
	for {
		fd, _, err := accept(l)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return err
		}
		if c == ClientFirst {
			_, _ = read(fd, b) // however it ends, it is over
		}
		unix.Close(fd)
	}
}

// Slow is a connect whose first SYN did not do: the next one follows after 1 s.
const Slow = 900 * time.Millisecond

// breath is what a loop rests after a connection that failed: there may be
// nothing to fail at.
const breath = time.Millisecond

// A Closer is loops that connect and close again, all to one address.
type Closer struct {
	From    []string // namespaces of the loops: they share these out among themselves
	Loops   int
	To      netip.AddrPort
	Closing Closing
	Pause   time.Duration // after each connection

	going sync.WaitGroup
	made  atomic.Int64
	slow  atomic.Int64
	fails atomic.Int64
	mu    sync.Mutex
	err   error
}

// Run lets the loops go for d, and returns how many connections a second they
// made in that time. One that is not made by then is not waited for: it goes on
// for itself, and counts as slow if it is. The next Run begins when it is over.
func (c *Closer) Run(d time.Duration) (perSecond float64, err error) {
	if err := c.Wait(); err != nil {
		return 0, err
	}
	c.made.Store(0)
	began := time.Now()
	end := began.Add(d)
	for loop := range c.Loops {
		c.going.Go(func() {
			if err := c.loop(loop, end); err != nil {
				c.mu.Lock()
				c.err = errors.Join(c.err, err)
				c.mu.Unlock()
			}
		})
	}
	time.Sleep(time.Until(end))
	return float64(c.made.Load()) / time.Since(began).Seconds(), nil
}

// Wait waits for what Run left behind.
func (c *Closer) Wait() error {
	c.going.Wait()
	return c.err
}

// Slow returns how many connects were slow, and how many failed, since the
// beginning: for want of a local port most of all.
func (c *Closer) Slow() (slow, failed int) { return int(c.slow.Load()), int(c.fails.Load()) }

// loop takes the namespaces in turn that are its own: of more namespaces than
// loops every Loops-th, otherwise one.
func (c *Closer) loop(loop int, end time.Time) error {
	first := loop % len(c.From)
	return netns.Do(c.From[first], func() error {
		var spaces []int
		for i := first; i < len(c.From); i += c.Loops {
			fd, err := unix.Open(c.From[i], unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open network namespace %s: %w", c.From[i], err)
			}
			defer unix.Close(fd)
			spaces = append(spaces, fd)
		}
		for turn := 0; time.Now().Before(end); turn++ {
			if len(spaces) > 1 {
				if err := unix.Setns(spaces[turn%len(spaces)], unix.CLONE_NEWNET); err != nil {
					return fmt.Errorf("enter network namespace: %w", err)
				}
			}
			c.connection()
			time.Sleep(c.Pause)
		}
		return nil
	})
}

// connection makes one connection and closes it.
func (c *Closer) connection() {
	began := time.Now()
	fd, err := Connect(c.To, 0)
	if time.Since(began) > Slow {
		c.slow.Add(1)
	}
	if err != nil {
		c.fails.Add(1)
		time.Sleep(breath)
		return
	}
	c.made.Add(1)
	if c.Closing == ServerFirst {
		_, _ = read(fd, make([]byte, 1)) // however it ends, it is over
	}
	unix.Close(fd)
}
