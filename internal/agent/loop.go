package agent

import (
	"context"
	"sync/atomic"
	"time"
)

// How often the loop looks by itself, and how soon again after a failure.
const (
	pollEvery    = 5 * time.Second       // for settings that announce nothing
	fullEvery    = 60 * time.Second      // reads all that is ours, whatever was announced
	settle       = 50 * time.Millisecond // the kernel's announcements come in crowds
	settleFailed = time.Second           // they may be the failed turn's own
	retryAtFirst = 100 * time.Millisecond
	retryAtMost  = 10 * time.Second
)

// A loop decides when to take a turn. Whatever is announced while one is taken
// leads to one more.
type loop struct {
	turn  func() error
	wake  chan struct{} // something changed; holds at most one
	drift atomic.Bool   // the kernel may not hold what we believe
	fails atomic.Bool   // the last turn did not apply everything
}

func newLoop(turn func() error) *loop {
	l := &loop{turn: turn, wake: make(chan struct{}, 1)}
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

// Drifted notes that the kernel changed by somebody's hand, maybe ours.
func (l *loop) Drifted() {
	if l.drift.Swap(true) {
		return
	}
	wait := settle
	if l.fails.Load() {
		wait = settleFailed
	}
	time.AfterFunc(wait, l.Wake)
}

// run takes turns until ctx is done.
func (l *loop) run(ctx context.Context) error {
	poll, full := time.NewTicker(pollEvery), time.NewTicker(fullEvery)
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
		case <-poll.C:
		case <-full.C:
			l.drift.Store(true)
		}
		err := l.turn()
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
