package agent

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// added are those of now that last had not, each known by its key. A turn may bring
// any number: every one is looked at once.
func added[T any, K comparable](last, now []T, key func(T) K) (out []T) {
	known := make(map[K]bool, len(last))
	for _, v := range last {
		known[key(v)] = true
	}
	for _, v := range now {
		if !known[key(v)] {
			out = append(out, v)
		}
	}
	return out
}

// A problemLog puts problems into the log, each once when it appears. Tenants make
// as many as they like: a minute has a few lines, and one that counts the rest.
type problemLog struct {
	log    *slog.Logger
	now    func() time.Time
	last   []world.Problem
	minute time.Time // lines are counted since
	lines  int
	unsaid int // of this minute
}

func (l *problemLog) tell(problems []world.Problem) {
	if now := l.now(); now.Sub(l.minute) >= time.Minute {
		l.minute, l.lines, l.unsaid = now, 0, 0
	}
	if slices.Equal(l.last, problems) {
		return
	}
	news := inOrder(added(l.last, problems, func(p world.Problem) world.Problem { return p }))
	l.last = problems
	before := l.unsaid
	for _, p := range news {
		if l.lines == logsAMinute {
			l.unsaid++
			continue
		}
		l.lines++
		l.log.Warn("problem", "object", p.Object, "field", p.Field, "reason", p.Reason, "hint", p.Hint)
	}
	if before == 0 && l.unsaid > 0 {
		l.log.Warn("more configuration errors: they are not logged one by one in this minute", "more", l.unsaid, "hint", "fairlead get problems lists them all")
	}
}

// inOrder puts what concerns the whole node before what is one namespace's, of
// which there may be any number.
func inOrder(problems []world.Problem) []world.Problem {
	namespaced := func(p world.Problem) int {
		if strings.Contains(p.Object, "/") {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(problems), func(p, q world.Problem) int { return cmp.Compare(namespaced(p), namespaced(q)) })
}

// mostReported is how many bytes a FairleadNode has at most: agents and the
// controller hold those of all nodes.
const mostReported = 48 << 10

// listProblems puts as many of the problems into a status as have room, and counts
// the others.
func listProblems(to *v1alpha1.FairleadNodeStatus, problems []world.Problem) {
	room := mostReported - sizeOf(to)
	for _, p := range inOrder(problems) {
		one := v1alpha1.Problem(p)
		if room -= sizeOf(one) + 1; room < 0 || len(to.Problems) == v1alpha1.MaxProblems {
			break
		}
		to.Problems = append(to.Problems, one)
	}
	to.MoreProblems = int64(len(problems) - len(to.Problems))
}

// sizeOf is how many bytes v takes in JSON.
func sizeOf(v any) int {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // v is made of strings and numbers
	}
	return len(text)
}
