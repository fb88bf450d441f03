package rtnl

import (
	"fmt"
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

// Parse splits an answer into its header and its attributes.
func Parse[T any](b []byte) (T, *netlink.AttributeDecoder, error) {
	header, ok := Value[T](b)
	if !ok {
		return header, nil, fmt.Errorf("an answer of %d bytes is too short", len(b))
	}
	d, err := netlink.NewAttributeDecoder(b[unsafe.Sizeof(header):])
	return header, d, err
}

// Bytes is v, a struct without pointers, as it is laid out, which is as the kernel
// lays it out.
func Bytes[T any](v T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))
}

// Value is the T that b begins with, if it is long enough.
func Value[T any](b []byte) (v T, ok bool) {
	n := copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v, n == int(unsafe.Sizeof(v))
}

// Addr is an IP address as an attribute has it; invalid if it is none.
func Addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}
