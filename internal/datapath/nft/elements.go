package nft

import (
	"iter"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/sorted"
)

// An Element is one member of a set: a single key or, in an interval set, the
// half-open range from Key to End. An empty End means up to the last value. In
// a map the key leads to Data. All are bytes as they stand in packets: see
// [Addr], [Tuple] and [Block].
type Element struct{ Key, End, Data string }

// Elements are those of a set, sorted, a key once. They never change: [Elements.With]
// makes others, which share with these what they have in common, so that of
// 100,000 the one that comes or goes costs little, and so does finding it.
type Elements struct{ list sorted.List[Element] }

// Sorted returns the given elements. It sorts them in place.
func Sorted(elements []Element) Elements { return Elements{sorted.Of(elements, compareElements)} }

// EachOf returns a function that makes of a list what f makes of each of its values, as
// [sorted.Each] does: what two values make stays until both are gone. It remembers, so
// that it costs what came and went since the last list; compare is the lists' order. Of
// elements with one key only one may be made at a time.
func EachOf[T comparable](f func(T) []Element, compare func(a, b T) int) func(sorted.List[T]) Elements {
	each := sorted.NewEach(f, compare, compareElements)
	return func(l sorted.List[T]) Elements { return Elements{each.Of(l)} }
}

// Len is how many there are.
func (e Elements) Len() int { return e.list.Len() }

// All are the elements one after the other.
func (e Elements) All() iter.Seq[Element] { return e.list.All() }

// Equal reports whether e and f are the same elements.
func (e Elements) Equal(f Elements) bool {
	gone, come := differing(e, f)
	return len(gone) == 0 && len(come) == 0
}

// With returns e without those gone, and with those that come. Where the value of
// a key is another, the element gone is the one with the old value.
func (e Elements) With(gone, come []Element) Elements {
	inOrder := func(some []Element) []Element { return slices.SortedFunc(slices.Values(some), compareElements) }
	return Elements{e.list.With(inOrder(gone), inOrder(come), compareElements)}
}

// differing returns what only a has, and what only b has.
func differing(a, b Elements) (onlyA, onlyB []Element) {
	return sorted.Differing(a.list, b.list, compareElements)
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
