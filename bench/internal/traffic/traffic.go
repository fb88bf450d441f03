// Package traffic sends TCP between network namespaces and measures what came
// through.
//
// Both ends are threads of this process that make blocking system calls, and
// all share one CPU: it is always busy, nothing waits for another one to wake,
// and what is measured is how much of a CPU the packets' way takes. All sockets
// use [Congestion].
package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// Congestion is the congestion control of every socket: the kernel's default
// differs from machine to machine, and some pace by the clock.
const Congestion = "cubic"

// A Path leads from one network namespace to an address in another.
type Path struct {
	From, To string // paths of the namespaces
	Address  netip.Addr
	CPU      int // the one to use, counted among those that this process may use

	// Where the other end listens, and where Connections connects to in turn, if
	// that is somewhere else; otherwise any port, and there.
	Port  uint16
	Doors []netip.AddrPort
}

// A Measure sends along a path for about as long as it is told and returns a
// rate per second.
type Measure func(p Path, d time.Duration) (float64, error)

// patience ends a measurement whose packets do not arrive.
const patience = 5 * time.Second

const (
	chunk  = 256 << 10 // bytes a read or write
	warmUp = 50 * time.Millisecond
)

// Stream returns the bytes per second that one connection carries.
func Stream(p Path, d time.Duration) (float64, error) {
	return p.converse(func(c int) error {
		b := make([]byte, chunk)
		for {
			if _, err := write(c, b); errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
				return nil
			} else if err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
	}, func(c int) (float64, error) {
		b := make([]byte, chunk)
		var counted int
		var began time.Time
		for warm := time.Now().Add(warmUp); ; {
			n, err := read(c, b)
			if err != nil || n == 0 {
				return 0, fmt.Errorf("receive: %w", errors.Join(err, unix.EPIPE))
			}
			now := time.Now()
			if began.IsZero() {
				if now.After(warm) {
					began = now
				}
				continue
			}
			counted += n
			if took := now.Sub(began); took >= d {
				return float64(counted) / took.Seconds(), nil
			}
		}
	})
}

// RoundTrips returns how often a second one byte goes there and one comes back,
// on one connection.
func RoundTrips(p Path, d time.Duration) (float64, error) {
	return p.converse(func(c int) error {
		b := make([]byte, 1)
		for {
			if _, err := write(c, b); err != nil {
				return nil // the other end has seen enough
			}
			if n, err := read(c, b); err != nil || n == 0 {
				return nil
			}
		}
	}, func(c int) (float64, error) {
		b := make([]byte, 1)
		began := time.Now()
		for n := 0; ; n++ {
			if k, err := read(c, b); err != nil || k == 0 {
				return 0, fmt.Errorf("receive: %w", errors.Join(err, unix.EPIPE))
			}
			if _, err := write(c, b); err != nil {
				return 0, fmt.Errorf("answer: %w", err)
			}
			if took := time.Since(began); took >= d {
				return float64(n+1) / took.Seconds(), nil
			}
		}
	})
}

// converse connects and runs one function at each end, until the server's is
// done.
func (p Path) converse(client func(c int) error, server func(c int) (float64, error)) (rate float64, err error) {
	l, at, err := p.Listen(0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(l)
	var c int
	err = netns.Do(p.From, func() (err error) { c, err = Connect(at, 0); return err })
	if err != nil {
		return 0, err
	}
	defer unix.Close(c)
	s, _, err := accept(l)
	if err != nil {
		return 0, err
	}
	sent := make(chan error, 1)
	go func() { sent <- onCPU(p.CPU, func() error { return client(c) }) }()
	err = onCPU(p.CPU, func() error {
		defer unix.Close(s)
		rate, err = server(s)
		return err
	})
	return rate, errors.Join(err, <-sent)
}

// workers is the number of connections at a time of Connections.
const workers = 4

// Connections returns how many connections a second are made, used for one byte
// each way and closed, client first.
func Connections(p Path, d time.Duration) (float64, error) {
	l, at, err := p.Listen(p.Port)
	if err != nil {
		return 0, err
	}
	doors := p.Doors
	if doors == nil {
		doors = []netip.AddrPort{at}
	}
	serving := make(chan error, workers)
	for range workers {
		go func() { serving <- onCPU(p.CPU, func() error { return serve(l) }) }()
	}
	counts := make(chan result, workers)
	began := time.Now()
	for range workers {
		go func() {
			var r result
			r.err = netns.Do(p.From, func() error {
				return onCPU(p.CPU, func() error { return r.connectFor(doors, d) })
			})
			counts <- r
		}()
	}
	var all result
	for range workers {
		r := <-counts
		all.n, all.err = all.n+r.n, errors.Join(all.err, r.err)
	}
	took := time.Since(began)
	err = errors.Join(all.err, unix.Shutdown(l, unix.SHUT_RDWR))
	for range workers {
		err = errors.Join(err, <-serving)
	}
	return float64(all.n) / took.Seconds(), errors.Join(err, unix.Close(l))
}

type result struct {
	n   int
	err error
}

// connectFor connects one time after the other, from door to door.
func (r *result) connectFor(doors []netip.AddrPort, d time.Duration) error {
	b := make([]byte, 1)
	for end := time.Now().Add(d); time.Now().Before(end); r.n++ {
		c, err := Connect(doors[r.n%len(doors)], 0)
		if err != nil {
			return err
		}
		_, err = write(c, b)
		if err == nil {
			_, err = read(c, b)
		}
		if err = errors.Join(err, unix.Close(c)); err != nil {
			return fmt.Errorf("connection %d: %w", r.n, err)
		}
	}
	return nil
}

// serve serves one connection after the other until l is shut down.
func serve(l int) error {
	b := make([]byte, 1)
	for {
		c, _, err := accept(l)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return err
		}
		for { // one byte, then the end
			n, err := read(c, b)
			if err != nil || n == 0 {
				break
			}
			if _, err := write(c, b); err != nil {
				break
			}
		}
		unix.Close(c)
	}
}

// onCPU runs f on a thread that stays on the nth CPU that this process may use,
// counting from 0 and beginning again behind the last.
func onCPU(n int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	only.Set(nth(&before, n))
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

func nth(set *unix.CPUSet, n int) int {
	n %= set.Count()
	for cpu := 0; ; cpu++ {
		if !set.IsSet(cpu) {
			continue
		}
		if n == 0 {
			return cpu
		}
		n--
	}
}
