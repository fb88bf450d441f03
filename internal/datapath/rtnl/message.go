package rtnl

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"unsafe"

	"github.com/mdlayher/netlink"
)

// NewMessage is a request about what header says, a struct as the kernel lays it
// out, without pointers.
func NewMessage[T any](typ netlink.HeaderType, flags netlink.HeaderFlags, header T, attrs ...netlink.Attribute) (netlink.Message, error) {
	m := netlink.Message{Header: netlink.Header{Type: typ, Flags: flags}}
	list, err := netlink.MarshalAttributes(attrs)
	m.Data = append(Bytes(header), list...)
	return m, err
}

// Parse splits an answer into its header and its attributes. One that is too short
// for its header has neither.
func Parse[T any](b []byte) (header T, attrs iter.Seq2[uint16, []byte]) {
	header, ok := Value[T](b)
	if !ok {
		return header, Attributes(nil)
	}
	return header, Attributes(b[unsafe.Sizeof(header):])
}

// Attributes are those in b by type, as far as b is a list of some
// (netlink(7), struct nlattr).
func Attributes(b []byte) iter.Seq2[uint16, []byte] {
	const header, flags = 4, 0xc000
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= header {
			size, typ := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
			if size < header || size > len(b) || !yield(typ&^flags, b[header:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// Bytes is v, a struct without pointers, as it is laid out, which is as the kernel
// lays it out.
func Bytes[T any](v T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))
}

// Value is the T that b begins with; zero if it is too short for one.
func Value[T any](b []byte) (v T, ok bool) {
	if len(b) < int(unsafe.Sizeof(v)) {
		return v, false
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v, true
}

// Addr is an IP address as an attribute has it; invalid if it is none.
func Addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}
