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
	m.Data = append(unsafe.Slice((*byte)(unsafe.Pointer(&header)), unsafe.Sizeof(header)), list...)
	return m, err
}

// Parse splits an answer into its header and its attributes.
func Parse[T any](b []byte) (T, *netlink.AttributeDecoder, error) {
	var header T
	size := int(unsafe.Sizeof(header))
	if len(b) < size {
		return header, nil, fmt.Errorf("an answer of %d bytes is too short", len(b))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&header)), size), b)
	d, err := netlink.NewAttributeDecoder(b[size:])
	return header, d, err
}

// Addr is an IP address as an attribute has it; invalid if it is none.
func Addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}
