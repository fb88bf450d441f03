package agent

import (
	"errors"
	"testing"
	"time"
)

// Each case says what happens to a schedule, and what is due then.
func TestNext(t *testing.T) {
	const ms, now = time.Millisecond, 300 * time.Millisecond
	err := errors.New("no")
	taken := func(s *schedule) { s.begin(100 * ms); s.end(104*ms, nil) }
	changes := func(s *schedule, from, to time.Duration) { s.changed(from); s.begin(from); s.end(to, nil) }
	for name, c := range map[string]struct {
		how  func(s *schedule)
		what task
		in   time.Duration
	}{
		"nothing":       {func(*schedule) {}, aPeek, peekEvery - now},
		"asked for":     {func(s *schedule) { s.wake(now) }, turnAsked, 0},
		"asked in vain": {func(s *schedule) { s.wake(100 * ms); taken(s) }, aPeek, peekEvery - now},
		"asked for during a turn": {func(s *schedule) {
			s.begin(100 * ms)
			s.wake(102 * ms)
			s.end(104*ms, nil)
		}, turnAsked, 0},
		"a change after quiet":  {func(s *schedule) { taken(s); s.changed(now) }, turnAsked, 0},
		"a change soon":         {func(s *schedule) { changes(s, 280*ms, 284*ms); s.changed(290 * ms) }, turnAsked, 284*ms + changeShare*4*ms - now},
		"a change after a look": {func(s *schedule) { s.wake(280 * ms); s.begin(280 * ms); s.end(284*ms, nil); s.changed(now) }, turnAsked, 0},
		"one, a look, another":  {func(s *schedule) { changes(s, 270*ms, 274*ms); s.begin(280 * ms); s.end(281*ms, nil); s.changed(now) }, turnAsked, 274*ms + changeShare*4*ms - now},
		"a change in a turn": {func(s *schedule) {
			changes(s, 100*ms, 104*ms)
			s.changed(290 * ms)
			s.begin(290 * ms)
			s.changed(295 * ms)
			s.end(now, nil)
		}, turnAsked, 290*ms + changeShare*4*ms - now},
		"a change, turns long":   {func(s *schedule) { changes(s, 0, 290*ms); s.changed(now) }, turnAsked, 290*ms + changeAtMost - now},
		"a change, and a wish":   {func(s *schedule) { changes(s, 0, 290*ms); s.changed(295 * ms); s.wake(now) }, turnAsked, 0},
		"a failure":              {func(s *schedule) { s.begin(250 * ms); s.end(270*ms, err) }, turnRetry, 270*ms + retryAtFirst - now},
		"a second failure":       {func(s *schedule) { s.end(100*ms, err); s.end(270*ms, err) }, turnRetry, 270*ms + 2*retryAtFirst - now},
		"a failure that is over": {func(s *schedule) { s.end(100*ms, err); s.end(200*ms, nil) }, aPeek, peekEvery - now},
		"no peek before a retry": {func(s *schedule) { s.peek = 0; s.end(290*ms, err) }, turnRetry, 290*ms + retryAtFirst - now},
		"an announcement":        {func(s *schedule) { s.drifted(now) }, follow, settle},
		"a crowd of them":        {func(s *schedule) { s.drifted(280 * ms); s.drifted(now) }, follow, 280*ms + settle - now},
		"one in a dear kernel":   {func(s *schedule) { s.read, s.cost = 290*ms, 20*ms; s.drifted(now) }, follow, 290*ms + verifyShare*20*ms - now},
		"one in a dearer kernel": {func(s *schedule) { s.peek = never; s.read, s.cost = 290*ms, time.Second; s.drifted(now) }, follow, 290*ms + settleAtMost - now},
		"one after a failure":    {func(s *schedule) { s.wait = time.Minute; s.end(100*ms, err); s.drifted(now) }, follow, settleFailed},
		"one that is followed":   {func(s *schedule) { s.drifted(200 * ms); s.follow(now) }, anAudit, 0},
		"and audited":            {func(s *schedule) { s.drifted(200 * ms); s.follow(now); s.audits(now) }, turnAsked, 0},
		"an audit after another": {func(s *schedule) { s.audits(200 * ms); s.auditEnds(290*ms, false); s.suspects = now }, anAudit, 290*ms + settle - now},
		"an audit that goes on":  {func(s *schedule) { s.audits(200 * ms); s.suspects = now }, aPeek, peekEvery - now},
		"an audit that found":    {func(s *schedule) { s.audits(200 * ms); s.auditEnds(290*ms, true) }, turnAsked, 0},
		"by itself":              {func(s *schedule) { s.peek = never }, turnPoll, pollEvery - now},
		"everything by itself":   {func(s *schedule) { s.peek, s.poll = never, never }, anAudit, fullEvery - now},
		"the oldest first":       {func(s *schedule) { s.peek = 200 * ms; s.wake(now) }, aPeek, 0},
	} {
		s := newSchedule()
		c.how(&s)
		before := s
		if what, in := s.next(now); what != c.what || in != c.in {
			t.Errorf("%s: %s in %s, want %s in %s", name, what, in, c.what, c.in)
		}
		if s != before {
			t.Errorf("%s: next changed the schedule", name)
		}
	}
}

// What a schedule leads to is done once.
func TestWhatIsDoneIsDueNoMore(t *testing.T) {
	s := newSchedule()
	s.drift = false
	now := 61 * time.Second
	s.drifted(now - time.Second)
	s.wake(now)
	for range 5 {
		what, in := s.next(now)
		if in > 0 {
			break
		}
		switch what {
		case follow:
			s.follow(now)
		case anAudit:
			s.audits(now)
		case aPeek:
			s.peeked(now)
		default:
			s.begin(now)
			s.end(now, nil)
		}
	}
	if what, in := s.next(now); what != aPeek || in != peekEvery || !s.auditing || s.drift {
		t.Errorf("after everything: %s in %s, auditing %t, drift %t", what, in, s.auditing, s.drift)
	}
	s.auditEnds(now, true)
	if what, in := s.next(now); what != turnAsked || in != 0 || !s.drift {
		t.Errorf("after what an audit found: %s in %s, drift %t", what, in, s.drift)
	}
}
