package status

import (
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A kind is one of what is written: all of it shares one bucket of tokens, and one
// voice in the log.
type kind struct {
	name   string
	bucket *rate.Limiter
	rule   string // of a ClusterRole, which lets the agent write it

	complaint string    // what the log said is wrong; "": nothing is
	by        *tries    // of which object it said that
	at        time.Time // when
	rewritten time.Time // when it said that somebody rewrites one
}

type kinds struct{ report, node, pod, event, lease *kind }

func newKinds() kinds {
	slowly := func() *rate.Limiter { return rate.NewLimiter(rate.Every(10*time.Second), 3) }
	return kinds{
		report: &kind{name: "FairleadNode", bucket: slowly(),
			rule: "{apiGroups: [fairlead.dev], resources: [fairleadnodes, fairleadnodes/status], verbs: [get, create, patch]}"},
		node: &kind{name: "Node", bucket: slowly(),
			rule: `{apiGroups: [""], resources: [nodes, nodes/status], verbs: [get, patch]}`},
		pod: &kind{name: "Pod", bucket: rate.NewLimiter(5, 50),
			rule: `{apiGroups: [""], resources: [pods], verbs: [get, patch]}`},
		lease: &kind{name: "Lease", bucket: rate.NewLimiter(rate.Every(beatEvery/2), 3),
			rule: `{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, patch]}`},
		event: &kind{name: "Event", bucket: rate.NewLimiter(rate.Every(10*time.Second), 25),
			rule: `{apiGroups: [""], resources: [events], verbs: [create, patch]}`},
	}
}

// freeAt is when there is a token.
func (k *kind) freeAt(now time.Time) time.Time {
	lack := 1 - k.bucket.TokensAt(now)
	if lack <= 0 {
		return now
	}
	return now.Add(time.Duration(lack / float64(k.bucket.Limit()) * float64(time.Second)))
}

// tries are the failed ones of an object.
type tries struct {
	kind      *kind
	fails     int
	notBefore time.Time
}

func (t *tries) again() *tries { return t }

// How soon again after a failure: the first time, and at most. What somebody has
// to set right takes people's time.
const (
	soonFirst, soonMost = time.Second, time.Minute
	lateFirst, lateMost = time.Minute, 5 * time.Minute
	awayMost            = 30 * time.Second
)

// The log hears of a kind's failures once, of other ones seldom, and again after
// long.
const (
	complainOther = time.Minute
	complainAgain = time.Hour
)

// backoff grows twofold with each failure, and is shared by chance among nodes.
func backoff(fails int, first, most time.Duration) time.Duration {
	d := min(first<<min(fails, 10), most)
	return d/2 + rand.N(d/2)
}

// Why something could not be written, as the metric says it.
const (
	unreachable = "unreachable"
	forbidden   = "forbidden"
	missing     = "missing"
	refused     = "refused"
	busy        = "busy"
	conflict    = "conflict"
	other       = "other"
)

var reasons = []string{unreachable, forbidden, missing, refused, busy, conflict, other}

func reasonOf(err error) string {
	status := apierrors.APIStatus(nil)
	switch {
	case !errors.As(err, &status):
		return unreachable
	case apierrors.IsForbidden(err):
		return forbidden
	case apierrors.IsNotFound(err):
		return missing
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return refused
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return conflict
	case apierrors.IsTooManyRequests(err), apierrors.IsServerTimeout(err), apierrors.IsTimeout(err),
		apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return busy
	}
	return other
}

// away is an API server that does not answer. One object tries for all.
type away struct {
	fails int
	until time.Time
}

// reached notes whether there was an answer.
func (s *APIServer) reached(err error, now time.Time) {
	if err != nil && reasonOf(err) == unreachable {
		if s.away.fails == 0 {
			s.log.Warn("the API server does not answer; what is to be told waits", "error", err)
		}
		s.away.until = now.Add(backoff(s.away.fails, soonFirst, awayMost))
		s.away.fails++
		return
	}
	if s.away.fails > 0 {
		s.log.Info("the API server is told again")
	}
	s.away = away{}
}

func (s *APIServer) succeeded(t *tries) {
	t.fails, t.notBefore = 0, time.Time{}
	if t.kind.by == t {
		s.log.Info("written again", "kind", t.kind.name)
		t.kind.by, t.kind.complaint = nil, ""
	}
}

// failed has t tried again later, and says so once.
func (s *APIServer) failed(t *tries, err error, now time.Time) {
	reason := reasonOf(err)
	s.metrics.failures.WithLabelValues(t.kind.name, reason).Inc()
	first, most := soonFirst, soonMost
	if reason == forbidden || reason == refused || kindMissing(err) {
		first, most = lateFirst, lateMost
	}
	wait := backoff(t.fails, first, most)
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		wait = max(wait, time.Duration(seconds)*time.Second)
	}
	t.fails, t.notBefore = t.fails+1, now.Add(wait)
	k := t.kind
	if reason == unreachable || t.fails == 1 && most == soonMost {
		return // said for all; nothing yet
	}
	quiet := complainOther
	if err.Error() == k.complaint {
		quiet = complainAgain
	}
	if k.by != nil && now.Sub(k.at) < quiet {
		return
	}
	k.complaint, k.by, k.at = err.Error(), t, now
	s.log.Warn(k.name+" not written; trying again", "error", err, "hint", k.hint(err))
}

// kindMissing reports whether the API server does not know the kind.
func kindMissing(err error) bool {
	return apierrors.IsNotFound(err) && apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// hint is what lets k be written.
func (k *kind) hint(err error) string {
	switch {
	case apierrors.IsForbidden(err):
		return "the agent's ClusterRole needs " + k.rule + ", and the policy fairlead-agent lets an agent write only what is its node's"
	case kindMissing(err):
		return "apply the CustomResourceDefinitions in deploy/crds"
	}
	return ""
}
