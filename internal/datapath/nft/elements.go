package nft

import (
	"iter"
	"slices"
	"strings"
)

// An Element is one member of a set: a single key or, in an interval set, the
// half-open range from Key to End. An empty End means up to the last value. In
// a map the key leads to Data. All are bytes as they stand in packets: see
// [Addr], [Tuple] and [Block].
type Element struct{ Key, End, Data string }

// Elements are those of a set, sorted, a key once. They never change: [Elements.With]
// makes others, which share with these what they have in common, so that of
// 100,000 the one that comes or goes costs little, and so does finding it.
type Elements struct{ chunks [][]Element } // none of which is empty

// chunkLen is how many elements a chunk has, about: twice as many are split.
const chunkLen = 256

// Sorted returns the given elements. It sorts them in place.
func Sorted(elements []Element) Elements {
	slices.SortFunc(elements, compareElements)
	var out Elements
	for c := range slices.Chunk(slices.Compact(elements), chunkLen) {
		out.chunks = append(out.chunks, slices.Clone(c)) // of its own, to go by itself
	}
	return out
}

// Len is how many there are.
func (e Elements) Len() int {
	n := 0
	for _, c := range e.chunks {
		n += len(c)
	}
	return n
}

// All are the elements one after the other.
func (e Elements) All() iter.Seq[Element] {
	return func(yield func(Element) bool) {
		for _, c := range e.chunks {
			for _, element := range c {
				if !yield(element) {
					return
				}
			}
		}
	}
}

// Equal reports whether e and f are the same elements.
func (e Elements) Equal(f Elements) bool {
	gone, come := differing(e, f)
	return len(gone) == 0 && len(come) == 0
}

// With returns e without those gone, and with those that come. Where the value of
// a key is another, the element gone is the one with the old value.
func (e Elements) With(gone, come []Element) Elements {
	less, more := Sorted(slices.Clone(gone)).list(), Sorted(slices.Clone(come)).list()
	if len(e.chunks) == 0 {
		return Sorted(more)
	}
	out := Elements{make([][]Element, 0, len(e.chunks)+1)}
	for i, c := range e.chunks {
		n, m := len(less), len(more)
		if i+1 < len(e.chunks) {
			next := e.chunks[i+1][0]
			n, _ = slices.BinarySearchFunc(less, next, compareElements)
			m, _ = slices.BinarySearchFunc(more, next, compareElements)
		}
		if n+m > 0 {
			c = merge(c, less[:n], more[:m])
			less, more = less[n:], more[m:]
		}
		out.add(c)
	}
	return out
}

// add appends a chunk, split or joined with the last where that gives one of a
// better length.
func (e *Elements) add(c []Element) {
	last := len(e.chunks) - 1
	switch {
	case len(c) >= 2*chunkLen:
		e.chunks = slices.AppendSeq(e.chunks, slices.Chunk(c, chunkLen))
	case last >= 0 && len(e.chunks[last])+len(c) <= chunkLen/2:
		e.chunks[last] = slices.Concat(e.chunks[last], c)
	case len(c) > 0:
		e.chunks = append(e.chunks, c)
	}
}

func (e Elements) list() []Element { return slices.Collect(e.All()) }

// merge is a chunk without those gone, and with those that come.
func merge(chunk, gone, come []Element) []Element {
	out := make([]Element, 0, len(chunk)+len(come))
	for _, e := range chunk {
		for len(come) > 0 && compareElements(come[0], e) < 0 {
			out, come = append(out, come[0]), come[1:]
		}
		if len(come) > 0 && come[0] == e {
			come = come[1:]
		}
		for len(gone) > 0 && compareElements(gone[0], e) < 0 {
			gone = gone[1:]
		}
		if len(gone) == 0 || gone[0] != e {
			out = append(out, e)
		}
	}
	return append(out, come...)
}

// differing returns what only a has, and what only b has. Chunks that they share
// are not looked at.
func differing(a, b Elements) (onlyA, onlyB []Element) {
	var s, t []Element // what is left of a chunk of each
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
		c := 0
		if len(s) == len(t) && &s[0] == &t[0] {
			s, t = nil, nil
			continue
		}
		if c = compareElements(s[0], t[0]); c < 0 {
			onlyA = append(onlyA, s[0])
		} else if c > 0 {
			onlyB = append(onlyB, t[0])
		}
		if c <= 0 {
			s = s[1:]
		}
		if c >= 0 {
			t = t[1:]
		}
	}
}

func compareElements(a, b Element) int {
	if c := strings.Compare(a.Key, b.Key); c != 0 {
		return c
	}
	if c := strings.Compare(a.End, b.End); c != 0 {
		return c
	}
	return strings.Compare(a.Data, b.Data)
}
