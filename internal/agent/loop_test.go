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
	return runPeeking(t, fail, func() bool { return false })
}

func runPeeking(t *testing.T, fail func(turn int) error, peek func() bool) (*loop, *atomic.Int64) {
	turns := new(atomic.Int64)
	l := newLoop(func() error { return fail(int(turns.Add(1))) }, peek)
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
		if l.drift.Load() != true {
			t.Error("after a failure the kernel must be read again")
		}
	})
}

func TestLoopReadsTheKernelAfterAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, turns := run(t, fine)
		l.drift.Store(false)
		for range 1000 { // a crowd of announcements
			l.Drifted()
		}
		pass(settle)
		if turns.Load() != 1 || !l.drift.Load() {
			t.Errorf("%d turns and drift %v, want one turn that reads the kernel", turns.Load(), l.drift.Load())
		}
	})
}

// Most announcements are of our own changes. Where reading the kernel is dear, it
// is read seldom, but within a second; and other turns do not wait for it.
func TestLoopReadsADearKernelSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		var drift *atomic.Bool
		var looked func(time.Duration)
		l, turns := run(t, func(int) error {
			if drift.Swap(false) {
				reads++
				looked(20 * time.Millisecond)
			}
			return nil
		})
		drift, looked = &l.drift, l.looked
		l.drift.Store(false)
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
		l, turns := run(t, fine)
		l.drift.Store(false)
		l.looked(time.Second)
		pass(time.Second)
		l.Drifted()
		pass(settle)
		if turns.Load() != 1 || !l.drift.Load() {
			t.Errorf("%d turns, drift %v, want one that reads the kernel", turns.Load(), l.drift.Load())
		}
	})
}

func TestLoopLooksAtWhatAnnouncesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, turns := runPeeking(t, fine, func() bool { return true })
		l.drift.Store(false)
		pass(peekEvery + time.Millisecond)
		if turns.Load() != 1 || !l.drift.Load() {
			t.Errorf("%d turns, drift %v, want one that reads the kernel", turns.Load(), l.drift.Load())
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
