package pressure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
)

// A sampler sees how connections that begin fare. It hears the kernel's events
// of the connection table in windows, and is deaf between them: the kernel makes
// a message of each event, so that their number is what is bounded.
type sampler struct {
	config *atomic.Pointer[Config]
	seen   atomic.Pointer[Waits]
	cpu    atomic.Int64 // of ours, in nanoseconds

	events   *conntrack.Events
	switched *os.File // whether the kernel makes events in this namespace
	credit   credit
	cost     time.Duration // of the last window
	tape     tape
	total    Tally
}

const (
	waitsShare = 0.01 // of one core
	// perEvent is what the kernel takes to make an event and to hand it over,
	// most of which the thread's own time does not show.
	perEvent = 2 * time.Microsecond
	// mostEvents closes a window early.
	mostEvents = 100000
	// openFor is how long connections that begin are followed.
	openFor = time.Second
	// lull is how long a read waits, and how late a window may close.
	lull = 100 * time.Millisecond
	// breath is how long events are left to gather, so that each does not wake us.
	breath = 10 * time.Millisecond
)

// switchOfEvents is net.netfilter.nf_conntrack_events. An open file of it stays
// that of the namespace.
const switchOfEvents = "/proc/sys/net/netfilter/nf_conntrack_events"

// newSampler prepares a sampler of the calling thread's network namespace.
func newSampler(config *atomic.Pointer[Config]) (*sampler, error) {
	s := &sampler{config: config, credit: newCredit(waitsShare, time.Now())}
	s.seen.Store(&Waits{})
	var err error
	if s.switched, err = os.Open(switchOfEvents); err != nil {
		return nil, fmt.Errorf("the kernel sends no conntrack events: %w", err)
	}
	if s.events, err = conntrack.OpenEvents(lull); err != nil {
		return nil, errors.Join(err, s.switched.Close())
	}
	return s, nil
}

func (s *sampler) close() {
	// Nothing was written that could be lost.
	_ = s.events.Close()
	_ = s.switched.Close()
}

// run opens a window whenever it can be afforded, until ctx is done.
func (s *sampler) run(ctx context.Context) {
	runtime.LockOSThread() // whose CPU time is measured
	defer runtime.UnlockOSThread()
	for {
		now := time.Now()
		s.credit.grow(now)
		wait := s.credit.until(s.cost)
		if wait == 0 {
			wait = s.look(ctx, now)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// look opens a window, and returns how long to wait for the next.
func (s *sampler) look(ctx context.Context, now time.Time) time.Duration {
	if why := s.deaf(); why != "" {
		s.tell(now, why)
		return idle
	}
	began := cpuTime()
	w := newWindow(*s.config.Load())
	heard, err := s.follow(ctx, w)
	s.cost = cpuTime() - began
	s.cpu.Add(int64(s.cost))
	s.cost += time.Duration(heard) * perEvent
	s.credit.spend(s.cost)
	if err != nil {
		s.tell(time.Now(), err.Error())
		return retryAfter
	}
	if ctx.Err() == nil {
		now = time.Now()
		all, each := w.close(now)
		s.total.add(all)
		s.tape = append(s.tape, closed{now, all, each})
		s.tell(now, "")
	}
	return 0
}

// deaf says why nothing is heard, if nothing is.
func (s *sampler) deaf() string {
	b := make([]byte, 8)
	n, _ := s.switched.ReadAt(b, 0) // the end of the file is no error
	if strings.TrimSpace(string(b[:n])) == "0" {
		return "net.netfilter.nf_conntrack_events is 0, so the kernel sends no conntrack events"
	}
	return ""
}

func (s *sampler) tell(now time.Time, missing string) {
	s.tape.drop(now)
	seen := &Waits{Missing: missing, Total: s.total}
	seen.LastMinute, seen.Worst = s.tape.sum()
	s.seen.Store(seen)
}

// follow hears events until all that were followed have waited long enough, or
// there were too many. It returns how many there were.
func (s *sampler) follow(ctx context.Context, w *window) (heard int, err error) {
	if err := s.events.Listen(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.events.Ignore()) }()
	phase, until := opening, time.Now().Add(openFor)
	for heard < mostEvents && ctx.Err() == nil {
		now := time.Now()
		if w.slept(now) {
			return heard, nil
		}
		switch over := !now.Before(until); {
		case phase == following && over:
			return heard, nil
		case phase == opening && (over || w.full()):
			phase, until = following, now.Add(again+lull)
		}
		err := s.events.Read(func(e *conntrack.Event) bool {
			heard++
			w.hear(time.Now(), e, phase)
			return heard < mostEvents
		})
		switch {
		case errors.Is(err, conntrack.ErrOverrun):
			w.doubt()
			return heard, nil
		case errors.Is(err, conntrack.ErrQuiet):
		case err != nil:
			return heard, err
		default:
			time.Sleep(breath)
		}
	}
	return heard, nil
}
