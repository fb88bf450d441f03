package feature

import "fairlead.dev/fairlead/internal/world"

// A Render turns worlds, one after the other, into what this node must hold. It is
// pure: the same world gives the same result, and it touches nothing. What it remembers
// of worlds before changes what it costs, never its result. It has no error: mistakes
// are Problems.
//
// A result is never changed once it is returned. Where it returns the same pointer as
// for the last world, nobody looks at it again.
type Render func(*world.World) *Result

// Memo returns a Render for a feature whose result is made of little, or as a whole. It
// calls render where what reads returns differs from the last time, and otherwise returns
// the last result. reads returns all parts of the world that render looks at; one that it
// leaves out leads to a stale result, which the test that compares warm renders with cold
// ones finds.
func Memo[R comparable](reads func(*world.World) R, render func(*world.World) Result) Render {
	var last *Result
	var read R
	return func(w *world.World) *Result {
		if last == nil || reads(w) != read {
			r := render(w)
			next := *w
			if r.Allocations != nil { // a turn that follows for nothing else has nothing to render
				next.Allocations = w.Allocations.With(r.Allocations)
			}
			last, read = &r, reads(&next)
		}
		return last
	}
}

// A Last remembers the value that was made last, and of what. The zero value
// remembers none.
type Last[K comparable, V any] struct {
	of    K
	value V
	made  bool
}

// Of returns the value that make makes of k: the last one, if that was made of the same.
func (l *Last[K, V]) Of(k K, make func() V) V {
	if !l.made || l.of != k {
		l.of, l.value, l.made = k, make(), true
	}
	return l.value
}
