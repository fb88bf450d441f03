package agent

import (
	"math"
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

// never is when that happens which nobody asked for.
const never = time.Duration(math.MaxInt64)

// A schedule is when a loop does what. Times are since the loop was made.
type schedule struct {
	asked            time.Duration // for a turn
	retry            time.Duration // of a turn that did not apply everything
	wait             time.Duration // until the retry after that
	peek, poll, full time.Duration // what the loop does by itself
	announced        time.Duration // announcements came, and are followed then
	suspects         time.Duration // since when an audit is wanted
	auditing         bool          // one is going on
	audited          time.Duration // when the last ended
	drift            bool          // the next turn reads the kernel
	began, ended     time.Duration // the last turn, or the present one
	changes, serves  bool          // the next turn is for changed objects; the last, or the present one, is
	rests            time.Duration // until when changed objects wait
	took             time.Duration // the last turn for changed objects that ended
	read, cost       time.Duration // when reading the kernel ended last, and what it took
}

func newSchedule() schedule {
	s := schedule{asked: never, retry: never, announced: never, suspects: never, audited: -settle, wait: retryAtFirst, drift: true}
	s.restart(0)
	return s
}

// restart has the loop look by itself from now on.
func (s *schedule) restart(now time.Duration) {
	s.peek, s.poll, s.full = now+peekEvery, now+pollEvery, now+fullEvery
}

// What a loop does.
type task string

const (
	follow    task = "follow announcements"
	anAudit   task = "audit"
	aPeek     task = "peek"
	turnAsked task = "a turn that was asked for"
	turnRetry task = "another try"
	turnPoll  task = "a turn by itself"
)

// next is what is due next, and how long after now. Of all it is what was due first,
// so that nothing waits for ever.
func (s *schedule) next(now time.Duration) (what task, in time.Duration) {
	peek, audit := s.peek, never
	if s.retry != never {
		peek = never // the retry reads the kernel
	}
	if !s.auditing { // one follows on the other
		audit = max(min(s.suspects, s.full), s.audited+settle)
	}
	at := never
	for _, d := range []struct {
		task
		at time.Duration
	}{{follow, s.announced}, {anAudit, audit}, {turnAsked, s.asked}, {turnRetry, s.retry}, {aPeek, peek}, {turnPoll, s.poll}} {
		if d.at < at {
			what, at = d.task, d.at
		}
	}
	return what, max(0, at-now)
}

// wake asks for a turn.
func (s *schedule) wake(now time.Duration) { s.asked = min(s.asked, now) }

// changed asks for a turn because objects changed.
func (s *schedule) changed(now time.Duration) {
	s.asked, s.changes = min(s.asked, max(now, s.rests)), true
}

// rest is what follows on a turn for changed objects before another.
func (s *schedule) rest() time.Duration { return min(changeShare*s.took, changeAtMost) }

// drifted notes that the kernel changed by somebody's hand, maybe ours. A turn and
// an audit follow soon.
func (s *schedule) drifted(now time.Duration) {
	if s.announced != never {
		return
	}
	s.announced = max(now+settle, s.read+min(verifyShare*s.cost, settleAtMost))
	if s.retry != never {
		s.announced = now + settleFailed
	}
}

// follow has an audit follow on announcements, and a turn for what is not ours, such as
// interfaces.
func (s *schedule) follow(now time.Duration) {
	s.announced = never
	s.suspects = min(s.suspects, now)
	s.wake(now)
}

// distrust has a turn read the kernel.
func (s *schedule) distrust(now time.Duration) {
	s.drift = true
	s.wake(now)
}

// peeked says that the loop looks at what announces nothing.
func (s *schedule) peeked(now time.Duration) { s.peek = now + peekEvery }

// begin says that a turn begins. Whatever is asked for from now on is for the next one.
func (s *schedule) begin(now time.Duration) {
	s.began, s.asked = now, never
	if s.serves, s.changes = s.changes, false; s.serves {
		s.rests = now + s.rest()
	}
	if s.poll <= now {
		s.poll = now + pollEvery
	}
}

// end says that a turn ended, and whether it applied everything.
func (s *schedule) end(now time.Duration, err error) {
	s.ended = now
	if s.serves {
		s.took = now - s.began
		s.rests = now + s.rest()
	}
	if err == nil {
		s.retry, s.wait = never, retryAtFirst
		return
	}
	s.drift = true
	s.retry, s.wait = now+s.wait, min(2*s.wait, retryAtMost)
}

// audits says that an audit begins.
func (s *schedule) audits(now time.Duration) {
	s.auditing, s.suspects = true, never
	if s.full <= now {
		s.full = now + fullEvery
	}
}

// auditEnds says that an audit ended, and whether it found a reason for a turn.
func (s *schedule) auditEnds(now time.Duration, found bool) {
	s.auditing, s.audited = false, now
	if found {
		s.distrust(now)
	}
}
