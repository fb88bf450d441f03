package nft

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// An Element is one member of a set: a single key or, in an interval set, the
// half-open range from Key to End. An empty End means up to the last value. In
// a map the key leads to Data. All are bytes as they stand in packets: see
// [Addr], [Tuple] and [Block].
type Element struct{ Key, End, Data string }

// Sorted sorts elements, in place, into the order in which a [Set] has them.
func Sorted(elements []Element) []Element {
	slices.SortFunc(elements, compareElements)
	return elements
}

// Prefixes returns the elements of an interval set that cover exactly ps. The
// kernel refuses overlapping ranges, so prefixes inside others are left out.
func Prefixes(ps []netip.Prefix) []Element {
	sorted := slices.Clone(ps)
	for i, p := range sorted {
		sorted[i] = p.Masked()
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []Element
	var last netip.Prefix
	for _, p := range sorted {
		if last.IsValid() && last.Contains(p.Addr()) {
			continue
		}
		last = p
		out = append(out, Element{Key: Addr(p.Addr()), End: after(p)})
	}
	return out
}

// after returns the first address behind p, or nothing where p reaches the end
// of the address space.
func after(p netip.Prefix) string {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return string(last.Next().AsSlice())
}

// Protocols returns elements of type [InetProto].
func Protocols(numbers ...byte) []Element {
	slices.Sort(numbers)
	var out []Element
	for _, n := range slices.Compact(numbers) {
		out = append(out, Element{Key: Proto(n)})
	}
	return out
}

func (s *Set) text(e Element) string {
	text := s.Type.text(e.Key)
	if first, ok := netip.AddrFromSlice([]byte(e.Key)); ok && s.Interval {
		text = addrRange(first, e.End)
	}
	if e.Key == "" {
		text = "*" // whatever has no element of its own
	}
	if s.Data == 0 {
		return text
	}
	if s.DataInterval {
		half := len(e.Data) / 2
		return text + " : " + s.Data.rangeText(e.Data[:half], e.Data[half:])
	}
	return text + " : " + s.Data.text(e.Data)
}

// addrRange is the addresses from first to before end.
func addrRange(first netip.Addr, end string) string {
	for bits := range first.BitLen() {
		if p, _ := first.Prefix(bits); p.Addr() == first && after(p) == end {
			return p.String()
		}
	}
	if last := lastBefore(end, first); last != first {
		return first.String() + "-" + last.String()
	}
	return first.String()
}

// lastBefore is the address before end; an empty end is behind the last address
// of like's family.
func lastBefore(end string, like netip.Addr) netip.Addr {
	if a, ok := netip.AddrFromSlice([]byte(end)); ok {
		return a.Prev()
	}
	a, _ := netip.AddrFromSlice(bytes.Repeat([]byte{0xff}, like.BitLen()/8))
	return a
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

// differing leaves out what a and b begin and end with alike: nearly all, where
// one element of many comes or goes.
func differing(a, b []Element) (restA, restB []Element) {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	a, b = a[n:], b[n:]
	n = 0
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return a[:len(a)-n], b[:len(b)-n]
}

// without returns the elements of s that are not in other; both are sorted.
func without(s, other []Element) []Element {
	var out []Element
	for _, e := range s {
		for len(other) > 0 && compareElements(other[0], e) < 0 {
			other = other[1:]
		}
		if len(other) == 0 || other[0] != e {
			out = append(out, e)
		}
	}
	return out
}
