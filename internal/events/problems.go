package events

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

// Added are those of now that last had not, each known by its key. A turn may bring
// any number: every one is looked at once.
func Added[T any, K comparable](last, now []T, key func(T) K) (out []T) {
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

// Problems puts problems into the log, each once when it appears. Tenants make
// as many as they like: a minute has a few lines, and one that counts the rest.
type Problems struct {
	Log    *slog.Logger
	Now    func() time.Time
	last   []world.Problem
	minute time.Time // lines are counted since
	lines  int
	unsaid int // of this minute
}

// Tell puts into the log what is new of problems.
func (l *Problems) Tell(problems []world.Problem) {
	if now := l.Now(); now.Sub(l.minute) >= time.Minute {
		l.minute, l.lines, l.unsaid = now, 0, 0
	}
	if slices.Equal(l.last, problems) {
		return
	}
	news := InOrder(Added(l.last, problems, func(p world.Problem) world.Problem { return p }))
	l.last = problems
	before := l.unsaid
	for _, p := range news {
		if l.lines == LogsAMinute {
			l.unsaid++
			continue
		}
		l.lines++
		l.Log.Warn("problem", "object", p.Object, "field", p.Field, "reason", p.Reason, "hint", p.Hint)
	}
	if before == 0 && l.unsaid > 0 {
		l.Log.Warn("more configuration errors: they are not logged one by one in this minute", "more", l.unsaid, "hint", "fairlead get problems lists them all")
	}
}

// InOrder puts what concerns the whole node before what is one namespace's, of
// which there may be any number.
func InOrder(problems []world.Problem) []world.Problem {
	namespaced := func(p world.Problem) int {
		if strings.Contains(p.Object, "/") {
			return 1
		}
		return 0
	}
	return slices.SortedStableFunc(slices.Values(problems), func(p, q world.Problem) int { return cmp.Compare(namespaced(p), namespaced(q)) })
}
