package nft

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flags of a NAT, from include/uapi/linux/netfilter/nf_nat.h. The kernel sets
// the first two itself, and lists them.
const (
	natRangeAddress     = 1 << 0
	natRangeSpecified   = 1 << 1
	natRangeFullyRandom = 1 << 4
)

// Masquerade rewrites the source to the address of the interface that the
// packet leaves by. It ends the rule.
type Masquerade struct {
	Low, High   uint16 // source ports to choose from; zero: the kernel's choice
	FullyRandom bool   // choose at random, whatever the original port
}

func (e Masquerade) text() string {
	s := "masquerade"
	if e.High != 0 {
		s += " to :" + portRange(e.Low, e.High)
	}
	if e.FullyRandom {
		s += " fully-random"
	}
	return s
}

func portRange(low, high uint16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d-%d", low, high)
}

func (e Masquerade) code() []instruction {
	var out []instruction
	var attrs []attr
	var flags uint32
	if e.High != 0 {
		flags |= natRangeSpecified
	}
	if e.FullyRandom {
		flags |= natRangeFullyRandom
	}
	if flags != 0 {
		attrs = append(attrs, u32(unix.NFTA_MASQ_FLAGS, flags))
	}
	if e.High != 0 {
		out = append(out, immediate(unix.NFT_REG_1, be16(e.Low)))
		last := uint32(unix.NFT_REG_1)
		if e.High != e.Low {
			out = append(out, immediate(unix.NFT_REG_2, be16(e.High)))
			last = unix.NFT_REG_2
		}
		attrs = append(attrs, u32(unix.NFTA_MASQ_REG_PROTO_MIN, unix.NFT_REG_1), u32(unix.NFTA_MASQ_REG_PROTO_MAX, last))
	}
	return append(out, instruction{"masq", attrs})
}

// SNAT rewrites the source to what a map has for a field of the packet, and ends the
// rule; what the map does not have goes on to the next rule. Packets of the other
// family pass by.
type SNAT struct {
	Family      Family
	By          Field  // zero: the source address
	Map         string // from By to addresses of Family
	Ports       bool   // the map is to ranges of address . port, as [Block] makes them; stands behind a match of the protocol
	FullyRandom bool   // choose ports at random, whatever the original port
}

func (e SNAT) text() string {
	s := fmt.Sprintf("snat %s to %s map @%s", e.Family.Keyword(), e.By.text(e.Family), e.Map)
	if e.FullyRandom {
		s += " fully-random"
	}
	return s
}

// code takes both bounds from what the map wrote to the registers. nft(8) 1.0.6
// takes the upper bounds of IPv6 with ports from the wrong registers, which the
// kernel refuses; it lists this code as it should be.
func (e SNAT) code() []instruction {
	address, ports := span{0, 0}, span{}
	if e.Ports {
		port := int(e.Family.AddrType().size()) / registerSize
		value := port + 1
		address, ports = span{0, value}, span{port, value + port}
	}
	var flags uint32
	if e.FullyRandom {
		flags = natRangeFullyRandom
	}
	return append(key{e.Family, []Field{e.By}}.find(e.Map),
		natOf{unix.NFT_NAT_SNAT, e.Family, address, ports, flags}.instruction())
}

// SNATTo rewrites the source to one address, and ends the rule. Packets of the other
// family pass by, as the kernel sees to (nft_nat_inet_eval).
type SNATTo struct {
	Address     netip.Addr
	Low, High   uint16 // source ports to choose from; zero: the kernel's choice
	FullyRandom bool   // choose at random, whatever the original port
}

func (e SNATTo) family() Family {
	if e.Address.Is4() {
		return IPv4
	}
	return IPv6
}

func (e SNATTo) text() string {
	to := e.Address.String()
	if e.High != 0 {
		if e.Address.Is6() {
			to = "[" + to + "]"
		}
		to += ":" + portRange(e.Low, e.High)
	}
	s := fmt.Sprintf("snat %s to %s", e.family().Keyword(), to)
	if e.FullyRandom {
		s += " fully-random"
	}
	return s
}

func (e SNATTo) code() []instruction {
	var flags uint32
	if e.FullyRandom {
		flags = natRangeFullyRandom
	}
	out := []instruction{immediate(unix.NFT_REG_1, e.Address.AsSlice())}
	ports := span{}
	if e.High != 0 {
		ports = span{wholeRegister, wholeRegister}
		out = append(out, immediate(register(wholeRegister), be16(e.Low)))
		if e.High != e.Low {
			ports.last += wholeRegister
			out = append(out, immediate(register(2*wholeRegister), be16(e.High)))
		}
	}
	return append(out, natOf{unix.NFT_NAT_SNAT, e.family(), span{0, 0}, ports, flags}.instruction())
}

// DNAT rewrites destination address and port to what a map has for the fields
// of the packet, and ends the rule; what the map does not have goes on to the
// next rule. The map leads to what [Endpoint] makes. Packets of the other
// family pass by.
func DNAT(f Family, set string, fields ...Field) Expr { return dnat{key{f, fields}, set} }

type dnat struct {
	key key
	set string
}

func (e dnat) text() string {
	return fmt.Sprintf("dnat %s to %s map @%s", e.key.family.Keyword(), e.key.text(), e.set)
}

func (e dnat) code() []instruction {
	port := int(e.key.family.AddrType().size()) / registerSize
	return append(e.key.find(e.set), natOf{unix.NFT_NAT_DNAT, e.key.family, span{0, 0}, span{port, port}, 0}.instruction())
}

// KeepSource binds a connection to the source that it has, and ends the rule:
// no later source NAT applies to it.
func KeepSource(f Family) Expr { return keepSource{f} }

type keepSource struct{ family Family }

func (e keepSource) text() string {
	return fmt.Sprintf("snat %s to %s", e.family.Keyword(), FieldSaddr.text(e.family))
}

func (e keepSource) code() []instruction {
	return append(key{e.family, []Field{FieldSaddr}}.load(), natOf{unix.NFT_NAT_SNAT, e.family, span{0, 0}, span{}, 0}.instruction())
}

// A span is the small registers that hold the first and the last of a range.
// Ports never are in the first one, so none is zero.
type span struct{ first, last int }

// natOf rewrites to what the registers hold.
type natOf struct {
	kind           uint32
	family         Family
	address, ports span
	flags          uint32
}

func (n natOf) instruction() instruction {
	attrs := []attr{
		u32(unix.NFTA_NAT_TYPE, n.kind), u32(unix.NFTA_NAT_FAMILY, uint32(n.family.Number())),
		u32(unix.NFTA_NAT_REG_ADDR_MIN, register(n.address.first)), u32(unix.NFTA_NAT_REG_ADDR_MAX, register(n.address.last)),
	}
	flags := n.flags | natRangeAddress
	if n.ports != (span{}) {
		flags |= natRangeSpecified
		attrs = append(attrs,
			u32(unix.NFTA_NAT_REG_PROTO_MIN, register(n.ports.first)), u32(unix.NFTA_NAT_REG_PROTO_MAX, register(n.ports.last)))
	}
	return instruction{"nat", append(attrs, u32(unix.NFTA_NAT_FLAGS, flags))}
}
