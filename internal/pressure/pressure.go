// Package pressure sees source ports and the connection table run out before
// connections are lost.
//
// Each connection whose source is translated holds one port of its new address
// towards its destination. Where few are free the kernel's bounded search misses
// them, and the connection's first packet is dropped in silence. So the ports
// in use are counted for every address, protocol and destination, and events
// say when they get scarce, when connections are lost, and what helps.
//
// The table may have hundreds of thousands of entries, and to list one costs
// microseconds. So it is listed only when a destination could have come to a
// threshold: it can have grown by no more than the whole table grew since it was
// last listed, and to count the table costs next to nothing. What may be spent
// is bounded in CPU time. Of a table that is too large for it a random sample is
// listed, and then only the destinations that stand out are counted.
package pressure

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

// Config says what to watch for.
type Config struct {
	Object     string          // that events are about: "Node n1"
	Ports      world.PortRange // that source NAT takes; zero: the kernel's choice
	Block      int             // of them that each pod has to itself; 0: all share them
	Randomized bool            // they are taken at random
	Monotonic  bool            // the timestamps of pods are asked to have no offsets
}

// kernelPorts are what the kernel chooses from where no range is given (Linux
// net/netfilter/nf_nat_core.c, nf_nat_l4proto_unique_tuple).
var kernelPorts = world.PortRange{Low: 1024, High: 65535}

func (c Config) ports() world.PortRange {
	if c.Ports.High == 0 {
		return kernelPorts
	}
	return c.Ports
}

// room is how many ports there are towards one destination, for a pod or for all.
func (c Config) room() int {
	if c.Block > 0 {
		return c.Block
	}
	return c.ports().Len()
}

// sharing returns the ports that a connection with the given one was chosen
// from, if it was from any that are watched. The last block has what does not
// make another.
func (c Config) sharing(port uint16) (Ports, bool) {
	all := Ports(c.ports())
	if !all.contains(port) {
		return Ports{}, false
	}
	if c.Block == 0 {
		return all, true
	}
	last := all.size()/c.Block - 1
	n := min(int(port-all.Low)/c.Block, last)
	low := int(all.Low) + n*c.Block
	if n == last {
		return Ports{uint16(low), all.High}, true
	}
	return Ports{uint16(low), uint16(low + c.Block - 1)}, true
}

// A Watch watches the connection table of one network namespace.
type Watch struct {
	record func(world.Event)
	log    *slog.Logger
	config atomic.Pointer[Config]
	status atomic.Pointer[Status]
	waits  atomic.Pointer[sampler] // nil: it could not begin
	wake   chan struct{}           // the config is new; holds at most one
	asked  chan question
	runs   atomic.Bool
	ended  chan struct{}
}

// A question is somebody who waits for a look.
type question struct {
	how    care
	answer chan<- Status
}

// New prepares a watch that tells record what happens.
func New(record func(world.Event), log *slog.Logger) *Watch {
	w := &Watch{record: record, log: log, wake: make(chan struct{}, 1), asked: make(chan question), ended: make(chan struct{})}
	w.config.Store(&Config{})
	w.status.Store(&Status{})
	return w
}

// Set changes what is watched for.
func (w *Watch) Set(c Config) {
	if *w.config.Swap(&c) == c {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Status is what was seen last.
func (w *Watch) Status() Status {
	s := *w.status.Load()
	if waits := w.waits.Load(); waits != nil {
		s.Waits, s.CPU.Waits = *waits.seen.Load(), time.Duration(waits.cpu.Load()).Seconds()
	}
	return s
}

// Look reads the counters now, lists the table again if that was long ago and
// can be afforded, and returns what is seen. While Run does not run that is what
// was seen last.
func (w *Watch) Look(ctx context.Context) Status { return w.ask(ctx, glance) }

// Examine is Look for a person: the table is listed now, if that can be
// afforded, and the fullest destination's ports are in the answer.
func (w *Watch) Examine(ctx context.Context) Status { return w.ask(ctx, closely) }

func (w *Watch) ask(ctx context.Context, how care) Status {
	if !w.runs.Load() {
		return w.Status()
	}
	answer := make(chan Status, 1)
	select {
	case w.asked <- question{how, answer}:
		return <-answer
	case <-w.ended:
	case <-ctx.Done():
	}
	return w.Status()
}

// retryAfter is how long a table that could not be read is left alone.
const retryAfter = time.Minute

// Run watches the table of the calling thread's network namespace until ctx is
// done. A watch runs once.
func (w *Watch) Run(ctx context.Context) {
	runtime.LockOSThread() // whose CPU time is measured
	defer runtime.UnlockOSThread()
	defer close(w.ended)
	w.runs.Store(true)
	defer w.sample(ctx)()
	for ctx.Err() == nil {
		if err := w.watch(ctx); err != nil {
			w.log.Warn("the connection table is not watched; retrying", "error", err, "after", retryAfter)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
}

// sample begins to see how connections begin, and returns what waits for its end.
func (w *Watch) sample(ctx context.Context) (wait func()) {
	s, err := newSampler(&w.config)
	if err != nil {
		w.log.Warn("new connections are not watched", "error", err)
		s = &sampler{}
		s.seen.Store(&Waits{Missing: err.Error()})
		w.waits.Store(s)
		return func() {}
	}
	w.waits.Store(s)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer s.close()
		s.run(ctx)
	}()
	return func() { <-ended }
}

// watch takes a step whenever it is time, until ctx is done or one fails.
func (w *Watch) watch(ctx context.Context) error {
	o, err := newObserver()
	if err != nil {
		return err
	}
	defer o.close()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		var q question
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		case <-next.C:
		case q = <-w.asked:
		}
		o.set(*w.config.Load())
		events, err := o.step(time.Now(), q.how)
		if err == nil {
			s := o.status
			w.status.Store(&s)
		}
		if q.answer != nil {
			q.answer <- w.Status()
		}
		if err != nil {
			return err
		}
		for _, e := range append(events, o.judge.returns(time.Now(), w.Status().Waits)...) {
			w.record(e)
		}
		next.Reset(o.wait())
	}
}
