package agent

import (
	"context"
	"sync"
	"time"
)

// A loop takes turns when its schedule says so. Whatever is announced while one is
// taken leads to one more.
type loop struct {
	turn  func() error
	peek  func() bool // looks at what announces nothing; true: something is not as it should be
	audit func() bool // the same of all that is ours, which may take long: turns go on
	start time.Time
	poke  chan struct{} // the schedule changed; holds at most one

	mu       sync.Mutex
	schedule schedule
}

func newLoop(turn func() error, peek, audit func() bool) *loop {
	return &loop{turn: turn, peek: peek, audit: audit, start: time.Now(), poke: make(chan struct{}, 1), schedule: newSchedule()}
}

// change changes the schedule.
func (l *loop) change(how func(s *schedule, now time.Duration)) {
	l.mu.Lock()
	how(&l.schedule, time.Since(l.start))
	l.mu.Unlock()
	select {
	case l.poke <- struct{}{}:
	default: // it will be looked at
	}
}

// Wake asks for a turn.
func (l *loop) Wake() { l.change((*schedule).wake) }

// Changed asks for a turn because objects changed.
func (l *loop) Changed() { l.change((*schedule).changed) }

// Drifted notes that the kernel changed by somebody's hand, maybe ours.
func (l *loop) Drifted() { l.change((*schedule).drifted) }

// looked notes how long reading the kernel took.
func (l *loop) looked(took time.Duration) {
	l.change(func(s *schedule, now time.Duration) { s.read, s.cost = now, took })
}

// takeDrift reports whether the present turn has to read the kernel.
func (l *loop) takeDrift() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.schedule.drift
	l.schedule.drift = false
	return was
}

// stuckAfter is how long a loop that polls every few seconds, and tries again
// every few, may go without ending a turn.
const stuckAfter = 90 * time.Second

// stuck reports for how long no turn has ended, if that is too long.
func (l *loop) stuck() (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := time.Since(l.start) - l.schedule.ended
	return since, since > stuckAfter
}

// next is what is due next, and in how long.
func (l *loop) next() (task, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.schedule.next(time.Since(l.start))
}

// run takes turns until ctx is done.
func (l *loop) run(ctx context.Context) error {
	l.change((*schedule).restart)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		what, in := l.next()
		timer.Reset(in)
		select {
		case <-ctx.Done():
			return nil
		case <-l.poke:
			continue
		case <-timer.C:
		}
		l.do(what)
	}
}

func (l *loop) do(what task) {
	switch what {
	case follow:
		l.change((*schedule).follow)
	case anAudit:
		l.change((*schedule).audits)
		go func() { // ends with the reading
			found := l.audit()
			l.change(func(s *schedule, now time.Duration) { s.auditEnds(now, found) })
		}()
	case aPeek:
		l.change((*schedule).peeked)
		if l.peek() {
			l.change((*schedule).distrust)
		}
	default:
		l.change((*schedule).begin)
		err := l.turn()
		l.change(func(s *schedule, now time.Duration) { s.end(now, err) })
	}
}
