package sorted

import "slices"

// An Each remembers what f made of each value of a list, so that f is called for those
// that came and went since the last list, and for no others. What several values make
// is there once, for as long as any of them is.
//
// f is a pure function: it makes the same of a value each time. Where it depends on
// something else that changes, another Each is begun.
type Each[T, V comparable] struct {
	f             func(T) []V
	compare       func(a, b T) int
	compareValues func(a, b V) int

	of   List[T]
	made List[V]
	more map[V]int // how often what is made more than once is made
}

// NewEach returns an Each that has seen no value. The functions order values of a list,
// and what f makes of them.
func NewEach[T, V comparable](f func(T) []V, compare func(a, b T) int, compareValues func(a, b V) int) *Each[T, V] {
	return &Each[T, V]{f: f, compare: compare, compareValues: compareValues, more: map[V]int{}}
}

// Of returns what f makes of all values of l, sorted. It shares with what it returned last
// what they have in common.
func (e *Each[T, V]) Of(l List[T]) List[V] {
	gone, come := Differing(e.of, l, e.compare)
	e.of = l
	if len(gone)+len(come) == 0 {
		return e.made
	}
	by := map[V]int{} // how much more often each is made now
	count := func(some []T, n int) {
		for _, t := range some {
			for _, v := range e.f(t) {
				by[v] += n
			}
		}
	}
	count(gone, -1)
	count(come, 1)
	var less, more []V
	for v, n := range by {
		was := e.times(v)
		switch now := was + n; {
		case now == 0 && was > 0:
			less = append(less, v)
		case now > 0 && was == 0:
			more = append(more, v)
		}
		if delete(e.more, v); was+n > 1 {
			e.more[v] = was + n
		}
	}
	slices.SortFunc(less, e.compareValues)
	slices.SortFunc(more, e.compareValues)
	e.made = e.made.With(less, more, e.compareValues)
	return e.made
}

// times is how often v is made.
func (e *Each[T, V]) times(v V) int {
	if n := e.more[v]; n > 0 {
		return n
	}
	if _, there := e.made.Find(func(w V) int { return e.compareValues(w, v) }); there {
		return 1
	}
	return 0
}
