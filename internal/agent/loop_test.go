package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// run starts a loop in a bubble of its own time and returns it with the turns
// that it takes, each answered by what fail says.
func run(t *testing.T, fail func(turn int) error) (*loop, *atomic.Int64) {
	return runLooking(t, fail, no, no)
}

func no() bool  { return false }
func yes() bool { return true }

func runLooking(t *testing.T, fail func(turn int) error, peek, audit func() bool) (*loop, *atomic.Int64) {
	turns := new(atomic.Int64)
	l := newLoop(func() error { return fail(int(turns.Add(1))) }, peek, audit)
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		if err := l.run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(stop)
	return l, turns
}

func fine(int) error { return nil }

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestLoopLooksByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, turns := run(t, fine)
		pass(2*pollEvery + time.Millisecond)
		if turns.Load() != 2 {
			t.Errorf("%d turns in 10 s, want 2: a changed range of ports must be seen within 10 s", turns.Load())
		}
	})
}

func TestLoopJoinsWhatIsAskedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		l, turns := run(t, func(turn int) error {
			if turn == 1 {
				<-proceed
			}
			return nil
		})
		l.Wake()
		synctest.Wait() // the first turn is being taken
		for range 100 {
			l.Wake()
		}
		close(proceed)
		synctest.Wait()
		if n := turns.Load(); n != 2 {
			t.Errorf("100 requests during a turn led to %d turns in all, want 2", n)
		}
	})
}

func TestLoopTriesAgainEverMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, turns := run(t, func(turn int) error {
			if turn < 4 {
				return errors.New("no")
			}
			return nil
		})
		l.Wake()
		for i, after := range []time.Duration{0, retryAtFirst, 2 * retryAtFirst, 4 * retryAtFirst} {
			pass(after)
			if turns.Load() != int64(i+1) {
				t.Fatalf("%d turns after try %d, want %d", turns.Load(), i, i+1)
			}
		}
		if l.drifts() != true {
			t.Error("after a failure the kernel must be read again")
		}
	})
}

func TestLoopReadsTheKernelAfterAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		audits := 0
		l, turns := runLooking(t, fine, no, func() bool { audits++; return audits > 1 })
		l.setDrift(false)
		for range 1000 { // a crowd of announcements
			l.Drifted()
		}
		pass(settle)
		if turns.Load() != 1 || audits != 1 || l.drifts() {
			t.Errorf("%d turns, %d audits, drift %t, want one turn and one audit that finds nothing", turns.Load(), audits, l.drifts())
		}
		l.Drifted()
		pass(settle)
		if turns.Load() < 2 || audits != 2 || !l.drifts() {
			t.Errorf("%d turns, %d audits, drift %t, want a turn that reads the kernel", turns.Load(), audits, l.drifts())
		}
	})
}

// Most announcements are of our own changes. Where reading the kernel is dear, it
// is read seldom, but within a second; and other turns do not wait for it.
func TestLoopReadsADearKernelSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		var looked func(time.Duration)
		l, turns := runLooking(t, fine, no, func() bool {
			reads++
			looked(20 * time.Millisecond)
			return false
		})
		looked = l.looked
		l.setDrift(false)
		looked(20 * time.Millisecond)
		for range 100 { // a pod comes every 20 ms, and each is announced
			l.Drifted()
			l.Wake()
			pass(20 * time.Millisecond)
		}
		if reads < 2 || reads > 5 || turns.Load() < 100 {
			t.Errorf("%d reads in %d turns within 2 s, want 2 to 5 in 100 or more", reads, turns.Load())
		}
	})
}

// However dear it is, the first announcement after a while is followed at once.
func TestLoopReadsADearKernelSoonAfterQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := runLooking(t, fine, no, yes)
		l.setDrift(false)
		l.looked(time.Second)
		pass(time.Second)
		l.Drifted()
		pass(settle)
		if !l.drifts() {
			t.Error("the kernel is not looked at")
		}
	})
}

func TestLoopLooksAtWhatAnnouncesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, turns := runLooking(t, fine, yes, no)
		l.setDrift(false)
		pass(peekEvery + time.Millisecond)
		if turns.Load() != 1 || !l.drifts() {
			t.Errorf("%d turns, drift %v, want one that reads the kernel", turns.Load(), l.drifts())
		}
	})
}

// An audit takes its time, and turns do not wait for it. What it finds leads to a
// turn that reads the kernel.
func TestLoopGoesOnDuringAnAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan bool)
		l, turns := runLooking(t, fine, no, func() bool { return <-proceed })
		l.setDrift(false)
		pass(fullEvery + time.Millisecond)
		before := turns.Load()
		pass(fullEvery) // and no second audit begins
		if turns.Load() <= before || l.drifts() {
			t.Errorf("%d turns during the audit, drift %t", turns.Load()-before, l.drifts())
		}
		before = turns.Load()
		proceed <- false
		synctest.Wait()
		if turns.Load() != before {
			t.Error("a turn for nothing")
		}
		pass(fullEvery)
		before = turns.Load()
		proceed <- true
		synctest.Wait()
		if turns.Load() != before+1 || !l.drifts() {
			t.Errorf("%d turns for what was found, drift %t", turns.Load()-before, l.drifts())
		}
	})
}

// However long the kernel refuses: whatever else wakes the loop meanwhile, there
// is one try more to come, not one for every failure.
func TestLoopThatKeepsFailingStaysSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, turns := run(t, func(int) error { return errors.New("no") })
		pass(time.Hour)
		before := turns.Load()
		pass(time.Minute)
		if n := turns.Load() - before; n > 25 {
			t.Errorf("%d turns in a minute after an hour of failures, want at most 25", n)
		}
	})
}

// A loop that fails is alive; one whose turn does not end is not.
func TestLoopThatHangsIsFoundOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		l, _ := run(t, func(turn int) error {
			if turn == 100 {
				<-hang
			}
			return errors.New("no")
		})
		pass(5 * time.Minute)
		if since, stuck := l.stuck(); stuck {
			t.Errorf("a loop that only fails counts as stuck after %s", since)
		}
		pass(15 * time.Minute)
		if _, stuck := l.stuck(); !stuck {
			t.Error("a turn that does not end is not noticed")
		}
		close(hang)
	})
}

// However often objects change, turns leave most of the time to others, and no
// change waits for long.
func TestLoopTakesFewTurnsForManyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, turns := run(t, func(int) error {
			time.Sleep(5 * time.Millisecond)
			return nil
		})
		for range 1000 {
			l.Changed()
			pass(time.Millisecond)
		}
		if n := turns.Load(); n > 1000/(5*changeShare)+1 {
			t.Errorf("%d turns of 5 ms in a second", n)
		}
		pass(time.Second)
		before := turns.Load()
		l.Changed()
		pass(time.Millisecond)
		if turns.Load() != before+1 {
			t.Error("a single change waits")
		}
		l.Changed()
		pass(changeAtMost + time.Millisecond)
		if turns.Load() != before+2 {
			t.Error("a change waits for long")
		}
	})
}

func (l *loop) setDrift(drift bool) {
	l.change(func(s *schedule, _ time.Duration) { s.drift = drift })
}

func (l *loop) drifts() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.schedule.drift
}
