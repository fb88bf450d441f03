package nft

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// An Expr is one word group of a rule. Its two faces stand side by side so that
// they cannot drift apart: the text a person reads, and the code the kernel
// runs.
type Expr interface {
	text() string
	code() []instruction
}

// Family is an address family.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are both, in the order in which things are listed.
var Families = []Family{IPv4, IPv6}

// AddrType is the set type that holds addresses of family f.
func (f Family) AddrType() Type { return map[Family]Type{IPv4: IPv4Addr, IPv6: IPv6Addr}[f] }

func (f Family) keyword() string { return map[Family]string{IPv4: "ip", IPv6: "ip6"}[f] }

func (f Family) number() byte {
	return map[Family]byte{IPv4: unix.NFPROTO_IPV4, IPv6: unix.NFPROTO_IPV6}[f]
}

// SaddrIn matches packets whose source is in the named set.
func SaddrIn(f Family, set string) Expr { return addrIn{f, "saddr", set, false} }

// DaddrIn matches packets whose destination is in the named set.
func DaddrIn(f Family, set string) Expr { return addrIn{f, "daddr", set, false} }

// DaddrNotIn matches packets whose destination is not in the named set.
func DaddrNotIn(f Family, set string) Expr { return addrIn{f, "daddr", set, true} }

type addrIn struct {
	family Family
	dir    string
	set    string
	not    bool
}

func (e addrIn) text() string {
	op := ""
	if e.not {
		op = "!= "
	}
	return fmt.Sprintf("%s %s %s@%s", e.family.keyword(), e.dir, op, e.set)
}

func (e addrIn) code() []instruction {
	offset, size := uint32(12), uint32(4)
	if e.family == IPv6 {
		offset, size = 8, 16
	}
	if e.dir == "daddr" {
		offset += size
	}
	return []instruction{
		meta(unix.NFT_META_NFPROTO),
		cmp([]byte{e.family.number()}),
		payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size),
		lookup(e.set, e.not),
	}
}

// L4Proto matches packets of one transport protocol, by its IANA number.
func L4Proto(number byte) Expr { return l4proto{number} }

type l4proto struct{ number byte }

func (e l4proto) text() string { return fmt.Sprintf("meta l4proto %d", e.number) }
func (e l4proto) code() []instruction {
	return []instruction{meta(unix.NFT_META_L4PROTO), cmp([]byte{e.number})}
}

// IIFName matches the interface a packet came from.
func IIFName(name string) Expr { return ifname{"iifname", unix.NFT_META_IIFNAME, name} }

// OIFName matches the interface a packet leaves by.
func OIFName(name string) Expr { return ifname{"oifname", unix.NFT_META_OIFNAME, name} }

type ifname struct {
	word string
	key  uint32
	name string
}

func (e ifname) text() string { return fmt.Sprintf("%s %q", e.word, e.name) }
func (e ifname) code() []instruction {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, e.name)
	return []instruction{meta(e.key), cmp(padded)}
}

// Dport matches the destination ports from low to high of TCP, UDP or SCTP; it
// stands behind a match of the protocol.
func Dport(low, high uint16) Expr { return dport{low, high} }

type dport struct{ low, high uint16 }

func (e dport) text() string {
	if e.low == e.high {
		return fmt.Sprintf("th dport %d", e.low)
	}
	return fmt.Sprintf("th dport %d-%d", e.low, e.high)
}

func (e dport) code() []instruction {
	load := payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
	if e.low == e.high {
		return []instruction{load, cmp(be16(e.low))}
	}
	return []instruction{load, compare(unix.NFT_CMP_GTE, be16(e.low)), compare(unix.NFT_CMP_LTE, be16(e.high))}
}

// TCPFlags matches TCP segments in which at least one of the flags is set, in
// the bits of RFC 9293; it stands behind a match of TCP.
func TCPFlags(flags TCPFlag) Expr { return tcpFlags{flags} }

// TCPFlag is one or more flags of a TCP header.
type TCPFlag byte

// The flags of a TCP header.
const (
	FIN TCPFlag = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

var tcpFlagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg"}

type tcpFlags struct{ flags TCPFlag }

func (e tcpFlags) text() string {
	var names []string
	for i, name := range tcpFlagNames {
		if e.flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return "tcp flags & (" + strings.Join(names, " | ") + ") != 0x0"
}

func (e tcpFlags) code() []instruction {
	return []instruction{
		meta(unix.NFT_META_L4PROTO), cmp([]byte{unix.IPPROTO_TCP}),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1),
		bitmask([]byte{byte(e.flags)}), compare(unix.NFT_CMP_NEQ, []byte{0}),
	}
}

// CTState matches packets by what conntrack says of their connection.
func CTState(states CTStates) Expr { return ctState{states} }

// CTStates is one or more states of a connection.
type CTStates uint32

// The states of a connection, with the bits of the kernel's
// include/uapi/linux/netfilter/nf_conntrack_common.h.
const (
	Invalid     CTStates = 1
	Established CTStates = 2
	Related     CTStates = 4
	New         CTStates = 8
)

type ctState struct{ states CTStates }

func (e ctState) text() string {
	var names []string
	for i, name := range []string{"invalid", "established", "related", "new"} {
		if e.states&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return "ct state " + strings.Join(names, ",")
}

func (e ctState) code() []instruction {
	mask := make([]byte, 4)
	binary.NativeEndian.PutUint32(mask, uint32(e.states))
	return []instruction{
		{"ct", []attr{u32(unix.NFTA_CT_KEY, unix.NFT_CT_STATE), u32(unix.NFTA_CT_DREG, unix.NFT_REG_1)}},
		bitmask(mask), compare(unix.NFT_CMP_NEQ, make([]byte, 4)),
	}
}
