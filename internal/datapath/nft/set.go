package nft

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Type is what the elements of a set are.
type Type uint32

// The element types in use, with the kernel's numbers for them (nft's own
// numbering; the kernel stores it for nft list and does not interpret it).
const (
	IPv4Addr  Type = 7
	IPv6Addr  Type = 8
	InetProto Type = 12
)

// Name is the type's name in nft(8).
func (t Type) Name() string {
	switch t {
	case IPv4Addr:
		return "ipv4_addr"
	case IPv6Addr:
		return "ipv6_addr"
	case InetProto:
		return "inet_proto"
	default:
		return fmt.Sprintf("type%d", uint32(t))
	}
}

func (t Type) size() uint32 {
	switch t {
	case IPv4Addr:
		return 4
	case IPv6Addr:
		return 16
	default:
		return 1
	}
}

// An Element is one member of a set: a single key or, in an interval set, the
// half-open range from Key to End. An empty End means up to the last value.
type Element struct{ Key, End string }

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
		out = append(out, Element{Key: string(p.Addr().AsSlice()), End: after(p)})
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
		out = append(out, Element{Key: string([]byte{n})})
	}
	return out
}

func (s *Set) text(e Element) string {
	if s.Type == InetProto {
		return strconv.Itoa(int(e.Key[0]))
	}
	first, ok := netip.AddrFromSlice([]byte(e.Key))
	if !ok {
		return fmt.Sprintf("%x", e.Key)
	}
	if !s.Interval {
		return first.String()
	}
	for bits := range first.BitLen() {
		if p, _ := first.Prefix(bits); p.Addr() == first && after(p) == e.End {
			return p.String()
		}
	}
	if last := lastBefore(e.End, first); last != first {
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
	return strings.Compare(a.End, b.End)
}

// without returns the elements of s that are not in other; both are sorted.
func without(s, other []Element) []Element {
	var out []Element
	for _, e := range s {
		if _, found := slices.BinarySearchFunc(other, e, compareElements); !found {
			out = append(out, e)
		}
	}
	return out
}
