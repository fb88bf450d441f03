package nft

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Type is what the keys of a set, or the values of a map, are.
type Type uint32

// The types in use, with the kernel's numbers for them (nft's own numbering;
// the kernel stores it for nft list and does not interpret it).
const (
	IPv4Addr    Type = 7
	IPv6Addr    Type = 8
	EtherAddr   Type = 9
	InetProto   Type = 12
	InetService Type = 13 // a port
	MarkType    Type = 19 // of a packet or a connection
	ClassID     Type = 23 // a packet's priority: a class of tc(8)
	IfName      Type = 41 // of a link
)

// typeBits is how much room each type has in the number of a concatenation.
const typeBits = 6

// Concat is the type of concatenations of the types: at most five.
func Concat(types ...Type) Type {
	var out Type
	for _, t := range types {
		out = out<<typeBits | t
	}
	return out
}

// fields are the types that t concatenates, or t alone.
func (t Type) fields() []Type {
	if t>>typeBits == 0 {
		return []Type{t}
	}
	return append((t >> typeBits).fields(), t&(1<<typeBits-1))
}

// Name is the type's name in nft(8).
func (t Type) Name() string {
	var names []string
	for _, f := range t.fields() {
		names = append(names, f.fieldName())
	}
	return strings.Join(names, " . ")
}

func (t Type) fieldName() string {
	switch t {
	case IPv4Addr:
		return "ipv4_addr"
	case IPv6Addr:
		return "ipv6_addr"
	case EtherAddr:
		return "ether_addr"
	case MarkType:
		return "mark"
	case ClassID:
		return "classid"
	case InetProto:
		return "inet_proto"
	case InetService:
		return "inet_service"
	case IfName:
		return "ifname"
	default:
		return fmt.Sprintf("type%d", uint32(t))
	}
}

// size is in bytes. The fields of a concatenation fill whole registers.
func (t Type) size() uint32 {
	fields := t.fields()
	if len(fields) == 1 {
		return t.fieldSize()
	}
	var sum uint32
	for _, f := range fields {
		sum += aligned(f.fieldSize())
	}
	return sum
}

func (t Type) fieldSize() uint32 {
	switch t {
	case IPv4Addr, MarkType, ClassID:
		return 4
	case EtherAddr:
		return 6
	case IPv6Addr, IfName:
		return 16
	case InetService:
		return 2
	default:
		return 1
	}
}

// hostOrdered reports whether values are numbers in the host's order.
func (t Type) hostOrdered() bool { return t == IfName || t == MarkType || t == ClassID }

// registerSize is the size in bytes of the kernel's small registers.
const registerSize = 4

func aligned(size uint32) uint32 { return (size + registerSize - 1) &^ (registerSize - 1) }

// text is a value, field by field.
func (t Type) text(value string) string {
	return strings.Join(t.words(value), " . ")
}

// rangeText is the values from first to last. nft(8) takes it for a range only
// if a field is written as one, be it of one port.
func (t Type) rangeText(first, last string) string {
	words, ends := t.words(first), t.words(last)
	for i := range min(len(words), len(ends)) {
		if words[i] != ends[i] || i == len(words)-1 {
			words[i] += "-" + ends[i]
		}
	}
	return strings.Join(words, " . ")
}

// words are the fields of a value; what is not of type t is shown as it is.
func (t Type) words(value string) []string {
	if len(value) != int(t.size()) {
		return []string{fmt.Sprintf("%x", value)}
	}
	var words []string
	for _, f := range t.fields() {
		words = append(words, f.fieldText(value[:f.fieldSize()]))
		value = value[min(int(aligned(f.fieldSize())), len(value)):]
	}
	return words
}

func (t Type) fieldText(b string) string {
	switch t {
	case IPv4Addr, IPv6Addr:
		a, _ := netip.AddrFromSlice([]byte(b))
		return a.String()
	case EtherAddr:
		return net.HardwareAddr(b).String()
	case MarkType:
		return fmt.Sprintf("%#x", binary.NativeEndian.Uint32([]byte(b)))
	case ClassID:
		return classOf(binary.NativeEndian.Uint32([]byte(b)))
	case IfName:
		return strconv.Quote(strings.TrimRight(b, "\x00"))
	case InetProto:
		return strconv.Itoa(int(b[0]))
	case InetService:
		return strconv.Itoa(int(binary.BigEndian.Uint16([]byte(b))))
	default:
		return fmt.Sprintf("%x", b)
	}
}

// Addr is an address as a key, a value, or a field of one.
func Addr(a netip.Addr) string {
	if a.Is4() {
		b := a.As4()
		return string(b[:])
	}
	b := a.As16()
	return string(b[:a.BitLen()/8])
}

// Ether is a hardware address as a key, a value, or a field of one.
func Ether(a [6]byte) string { return string(a[:]) }

// Number is a mark or a class as a key, a value, or a field of one. It is in the host's
// order, so that sets with ranges of them would be none.
func Number(n uint32) string { return string(host32(n)) }

// Proto is a transport protocol, by its IANA number, as a key or a field of one.
func Proto(number byte) string { return string([]byte{number}) }

// Link is the name of a link as a key or a field of one.
func Link(name string) string {
	var b [unix.IFNAMSIZ]byte
	copy(b[:], name)
	return string(b[:])
}

// Port is a port as a field of a key or a value.
func Port(number uint16) string { return string([]byte{byte(number >> 8), byte(number)}) }

// Tuple is a key or a value of a concatenated type, of its fields.
func Tuple(fields ...string) string {
	b := make([]byte, 0, 2*(16+registerSize)) // on the stack: there may be many
	for _, f := range fields {
		b = append(b, f...)
		for len(b)%registerSize != 0 {
			b = append(b, 0)
		}
	}
	return string(b)
}

// Endpoint is an address and a port: what a [DNAT] map leads to.
func Endpoint(a netip.AddrPort) string { return Tuple(Addr(a.Addr()), Port(a.Port())) }

// Block is an address and the ports from low to high, a range: what a [SNAT]
// map with ports leads to.
func Block(a netip.Addr, low, high uint16) string {
	return Endpoint(netip.AddrPortFrom(a, low)) + Endpoint(netip.AddrPortFrom(a, high))
}
