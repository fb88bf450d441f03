// Package sorted keeps many values in order so that one that changes costs little.
//
// A [List] never changes: what comes of it shares with it what they have in common.
// Of 100,000 values the one that comes or goes copies some hundred, and finding what
// differs between two such lists looks at as many.
package sorted

import (
	"iter"
	"slices"
)

// A List is values in an order that the caller knows, none twice. The zero value
// has none.
type List[T comparable] struct{ chunks [][]T } // none of which is empty

// chunkLen is how many values a chunk has, about: twice as many are split.
const chunkLen = 256

// Of returns a list of all, which it sorts. Of values that compare as equal one
// remains.
func Of[T comparable](all []T, compare func(a, b T) int) List[T] {
	slices.SortStableFunc(all, compare)
	var out List[T]
	for c := range slices.Chunk(slices.CompactFunc(all, func(a, b T) bool { return compare(a, b) == 0 }), chunkLen) {
		out.chunks = append(out.chunks, slices.Clone(c)) // of its own, to go by itself
	}
	return out
}

// Len is how many values there are.
func (l List[T]) Len() int {
	n := 0
	for _, c := range l.chunks {
		n += len(c)
	}
	return n
}

// All are the values one after the other.
func (l List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, c := range l.chunks {
			for _, v := range c {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// Equal reports whether l and m have the same values in the same order. Chunks that they
// share are not looked at.
func (l List[T]) Equal(m List[T]) bool {
	var s, t []T // what is left of a chunk of each
	for x, y := l.chunks, m.chunks; ; {
		if len(s) == 0 && len(x) > 0 {
			s, x = x[0], x[1:]
		}
		if len(t) == 0 && len(y) > 0 {
			t, y = y[0], y[1:]
		}
		n := min(len(s), len(t))
		if n == 0 {
			return len(s) == len(t)
		}
		if &s[0] != &t[0] && !slices.Equal(s[:n], t[:n]) {
			return false
		}
		s, t = s[n:], t[n:]
	}
}

// Sharing returns l, and shares with last what they have in common: who looks for what
// differs between the two finds it soon.
func (l List[T]) Sharing(last List[T], compare func(a, b T) int) List[T] {
	gone, come := Differing(last, l, compare)
	if len(gone)+len(come) == 0 {
		return last
	}
	return last.With(gone, come, compare)
}

// Slice is the values in a slice of their own.
func (l List[T]) Slice() []T { return slices.Concat(l.chunks...) }

// Find returns the value for which compare returns 0. It returns less than that for
// values before, and more for those behind.
func (l List[T]) Find(compare func(T) int) (v T, ok bool) {
	against := func(v T, _ struct{}) int { return compare(v) }
	i, _ := slices.BinarySearchFunc(l.chunks, struct{}{}, func(c []T, _ struct{}) int { return compare(c[len(c)-1]) })
	if i == len(l.chunks) {
		return v, false
	}
	j, ok := slices.BinarySearchFunc(l.chunks[i], struct{}{}, against)
	if !ok {
		return v, false
	}
	return l.chunks[i][j], true
}

// From are the values one after the other, from the first on for which compare does not
// return less than 0.
func (l List[T]) From(compare func(T) int) iter.Seq[T] {
	return func(yield func(T) bool) {
		against := func(v T, _ struct{}) int { return compare(v) }
		i, _ := slices.BinarySearchFunc(l.chunks, struct{}{}, func(c []T, _ struct{}) int { return compare(c[len(c)-1]) })
		for n, c := range l.chunks[i:] {
			if n == 0 {
				j, _ := slices.BinarySearchFunc(c, struct{}{}, against)
				c = c[j:]
			}
			for _, v := range c {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// With returns l without those gone, and with those that come; what does both
// stays. A value that takes the place of one that compares as equal comes, and the
// other goes. Both are sorted.
func (l List[T]) With(gone, come []T, compare func(a, b T) int) List[T] {
	switch {
	case len(gone)+len(come) == 0:
		return l
	case len(l.chunks) == 0:
		return Of(slices.Clone(come), compare)
	}
	out := List[T]{make([][]T, 0, len(l.chunks)+1)}
	for i, c := range l.chunks {
		n, m := len(gone), len(come)
		if i+1 < len(l.chunks) {
			next := l.chunks[i+1][0]
			n, _ = slices.BinarySearchFunc(gone, next, compare)
			m, _ = slices.BinarySearchFunc(come, next, compare)
		}
		if n+m > 0 {
			c = merge(c, gone[:n], come[:m], compare)
			gone, come = gone[n:], come[m:]
		}
		out.add(c)
	}
	if len(out.chunks) == 0 {
		return List[T]{}
	}
	return out
}

// add appends a chunk, split or joined with the last where that gives one of a
// better length.
func (l *List[T]) add(c []T) {
	last := len(l.chunks) - 1
	switch {
	case len(c) >= 2*chunkLen:
		l.chunks = slices.AppendSeq(l.chunks, slices.Chunk(c, chunkLen))
	case last >= 0 && len(l.chunks[last])+len(c) <= chunkLen/2:
		l.chunks[last] = slices.Concat(l.chunks[last], c)
	case len(c) > 0:
		l.chunks = append(l.chunks, c)
	}
}

// merge is a chunk without those gone, and with those that come.
func merge[T comparable](chunk, gone, come []T, compare func(a, b T) int) []T {
	out := make([]T, 0, len(chunk)+len(come))
	for _, v := range chunk {
		for len(come) > 0 && compare(come[0], v) < 0 {
			out, come = append(out, come[0]), come[1:]
		}
		stays := len(come) > 0 && come[0] == v
		if stays {
			come = come[1:]
		}
		for len(gone) > 0 && compare(gone[0], v) < 0 {
			gone = gone[1:]
		}
		if stays || len(gone) == 0 || gone[0] != v {
			out = append(out, v)
		}
	}
	return append(out, come...)
}

// Differing returns what only a has, and what only b has, both in order. Chunks that
// they share are not looked at.
func Differing[T comparable](a, b List[T], compare func(a, b T) int) (onlyA, onlyB []T) {
	var s, t []T // what is left of a chunk of each
	for x, y := a.chunks, b.chunks; ; {
		if len(s) == 0 && len(x) > 0 {
			s, x = x[0], x[1:]
		}
		if len(t) == 0 && len(y) > 0 {
			t, y = y[0], y[1:]
		}
		if len(s) == 0 || len(t) == 0 {
			return slices.Concat(append(onlyA, s...), slices.Concat(x...)), slices.Concat(append(onlyB, t...), slices.Concat(y...))
		}
		if len(s) == len(t) && &s[0] == &t[0] {
			s, t = nil, nil
			continue
		}
		c := compare(s[0], t[0])
		other := s[0] != t[0]
		if c <= 0 {
			if other {
				onlyA = append(onlyA, s[0])
			}
			s = s[1:]
		}
		if c >= 0 {
			if other {
				onlyB = append(onlyB, t[0])
			}
			t = t[1:]
		}
	}
}
