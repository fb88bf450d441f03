package agent

import (
	"context"
	"sync/atomic"
	"time"
)

// How often the loop looks by itself, and how soon again after a failure.
const (
	peekEvery    = time.Second            // at what announces nothing: settings, the clock
	pollEvery    = 5 * time.Second        // at all inputs
	fullEvery    = 60 * time.Second       // at all that is ours, whatever was announced
	settle       = 50 * time.Millisecond  // the kernel's announcements come in crowds
	settleAtMost = 900 * time.Millisecond // repairs come within a second
	settleFailed = time.Second            // they may be the failed turn's own
	retryAtFirst = 100 * time.Millisecond
	retryAtMost  = 10 * time.Second
)

// verifyShare bounds the time spent reading the kernel after announcements, most
// of which tell of our own changes: one part in so many.
const verifyShare = 20

// Objects come in bursts, and where they are many a turn costs much for each of
// them. Turns that follow on one another for changed objects take one part in so
// many of the time, as long as none waits longer than this.
const (
	changeShare  = 8
	changeAtMost = 50 * time.Millisecond
)

// A loop decides when to take a turn. Whatever is announced while one is taken
// leads to one more.
type loop struct {
	turn  func() error
	peek  func() bool   // looks at what announces nothing; true: something is not as it should be
	audit func() bool   // the same of all that is ours, which may take long: turns go on
	wake  chan struct{} // something changed; holds at most one
	noted atomic.Bool   // announcements came; an audit is on its way
	drift atomic.Bool   // the next turn reads the kernel
	fails atomic.Bool   // the last turn did not apply everything
	cost  atomic.Int64  // nanoseconds that reading the kernel took last
	read  atomic.Int64  // when that ended, in nanoseconds since start
	start time.Time
	ended atomic.Int64 // when the last turn ended, in nanoseconds since start
	began atomic.Int64 // when the last turn, or the present one, began
	took  atomic.Int64 // nanoseconds that the last took
	later atomic.Bool  // a turn for changed objects is on its way
	looks atomic.Bool  // an audit is going on
}

func newLoop(turn func() error, peek, audit func() bool) *loop {
	l := &loop{turn: turn, peek: peek, audit: audit, wake: make(chan struct{}, 1), start: time.Now()}
	l.drift.Store(true)
	return l
}

// Wake asks for a turn.
func (l *loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // one is asked for already
	}
}

// Changed asks for a turn because objects changed.
func (l *loop) Changed() {
	since := time.Since(l.start) - time.Duration(max(l.began.Load(), l.ended.Load()))
	wait := min(changeShare*time.Duration(l.took.Load()), changeAtMost) - since
	if wait <= 0 {
		l.Wake()
		return
	}
	if l.later.Swap(true) {
		return
	}
	time.AfterFunc(wait, func() {
		l.later.Store(false)
		l.Wake()
	})
}

// looked notes how long reading the kernel took.
func (l *loop) looked(took time.Duration) {
	l.cost.Store(int64(took))
	l.read.Store(int64(time.Since(l.start)))
}

// Drifted notes that the kernel changed by somebody's hand, maybe ours. A turn and
// an audit follow soon.
func (l *loop) Drifted() {
	if l.noted.Swap(true) {
		return
	}
	since := time.Since(l.start) - time.Duration(l.read.Load())
	wait := max(settle, min(verifyShare*time.Duration(l.cost.Load()), settleAtMost)-since)
	if l.fails.Load() {
		wait = settleFailed
	}
	time.AfterFunc(wait, func() {
		l.Wake() // for what is not ours, such as interfaces
		l.lookAtAll()
	})
}

// lookAtAll audits, and asks for a turn that reads the kernel itself where that
// finds a reason. One audit follows on the other.
func (l *loop) lookAtAll() {
	if l.looks.Swap(true) {
		time.AfterFunc(settle, l.lookAtAll)
		return
	}
	l.noted.Store(false)
	if l.audit() {
		l.drift.Store(true)
		l.Wake()
	}
	l.looks.Store(false)
}

// stuckAfter is how long a loop that polls every few seconds, and tries again
// every few, may go without ending a turn.
const stuckAfter = 90 * time.Second

// stuck reports for how long no turn has ended, if that is too long.
func (l *loop) stuck() (time.Duration, bool) {
	since := time.Since(l.start) - time.Duration(l.ended.Load())
	return since, since > stuckAfter
}

// run takes turns until ctx is done.
func (l *loop) run(ctx context.Context) error {
	peek, poll, full := time.NewTicker(peekEvery), time.NewTicker(pollEvery), time.NewTicker(fullEvery)
	defer peek.Stop()
	defer poll.Stop()
	defer full.Stop()
	var again <-chan time.Time // the one retry to come, if the last turn failed
	retry := retryAtFirst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-again:
		case <-peek.C:
			if again != nil || !l.peek() {
				continue
			}
			l.drift.Store(true)
		case <-poll.C:
		case <-full.C:
			go l.lookAtAll() // ends with the reading
			continue
		}
		began := time.Since(l.start)
		l.began.Store(int64(began))
		err := l.turn()
		ended := time.Since(l.start)
		l.ended.Store(int64(ended))
		l.took.Store(int64(ended - began))
		l.fails.Store(err != nil)
		if err != nil {
			l.drift.Store(true)
			again = time.After(retry)
			retry = min(2*retry, retryAtMost)
			continue
		}
		again, retry = nil, retryAtFirst
	}
}
