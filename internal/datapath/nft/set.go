package nft

import (
	"bytes"
	"net/netip"
	"slices"
)

// Prefixes returns the elements of an interval set that cover exactly ps. The
// kernel refuses overlapping ranges, so prefixes inside others are left out.
func Prefixes(ps []netip.Prefix) Elements {
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
	return Sorted(out)
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
func Protocols(numbers ...byte) Elements {
	var out []Element
	for _, n := range numbers {
		out = append(out, Element{Key: Proto(n)})
	}
	return Sorted(out)
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
