package nft

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Saddr matches packets whose source is in p.
func Saddr(p netip.Prefix) Match { return inPrefix{FieldSaddr, p.Masked(), is} }

// Daddr matches packets whose destination is in p.
func Daddr(p netip.Prefix) Match { return inPrefix{FieldDaddr, p.Masked(), is} }

type inPrefix struct {
	field  Field
	prefix netip.Prefix
	relation
}

func (e inPrefix) family() Family {
	if e.prefix.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

func (e inPrefix) not() Match { e.relation = isNot; return e }
func (e inPrefix) text() string {
	if e.prefix.IsSingleIP() {
		return fmt.Sprintf("%s %s%s", e.field.text(e.family()), e.relation.text(), e.prefix.Addr())
	}
	return fmt.Sprintf("%s %s%s", e.field.text(e.family()), e.relation.text(), e.prefix)
}

// code loads whole bytes only, where the prefix has only whole ones.
func (e inPrefix) code() []instruction {
	out := isFamily(e.family())
	address, bits := e.prefix.Addr().AsSlice(), e.prefix.Bits()
	offset, size := e.field.place(e.family())
	if bits%8 == 0 && bits > 0 {
		size = uint32(bits / 8)
		return append(out, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size), e.cmp(address[:size]))
	}
	mask := make([]byte, size)
	for bit := range bits {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return append(out, payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size), bitmask(mask), e.cmp(address))
}

// IsFamily matches packets of one family.
func IsFamily(f Family) Expr { return ofFamily{f} }

type ofFamily struct{ family Family }

func (e ofFamily) text() string {
	return "meta nfproto " + map[Family]string{IPv4: "ipv4", IPv6: "ipv6"}[e.family]
}
func (e ofFamily) code() []instruction { return isFamily(e.family) }

// DaddrLocal matches packets to an address of this node.
func DaddrLocal() Match { return local{FieldDaddr, is} }

// SaddrLocal matches packets from an address of this node.
func SaddrLocal() Match { return local{FieldSaddr, is} }

type local struct {
	field Field
	relation
}

func (e local) not() Match { e.relation = isNot; return e }
func (e local) text() string {
	word := map[Field]string{FieldSaddr: "saddr", FieldDaddr: "daddr"}[e.field]
	return fmt.Sprintf("fib %s type %slocal", word, e.relation.text())
}

func (e local) code() []instruction {
	flag := map[Field]uint32{FieldSaddr: unix.NFTA_FIB_F_SADDR, FieldDaddr: unix.NFTA_FIB_F_DADDR}[e.field]
	return []instruction{
		{"fib", []attr{
			u32(unix.NFTA_FIB_DREG, unix.NFT_REG_1), u32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE),
			u32(unix.NFTA_FIB_FLAGS, flag),
		}},
		e.cmp(host32(unix.RTN_LOCAL)),
	}
}

// Priority matches packets of one priority (skb->priority), which may be a class of
// tc(8): MAJOR:MINOR.
func Priority(value uint32) Match { return priority{value, is} }

type priority struct {
	value uint32
	relation
}

func (e priority) not() Match   { e.relation = isNot; return e }
func (e priority) text() string { return "meta priority " + e.relation.text() + classOf(e.value) }
func (e priority) code() []instruction {
	return []instruction{meta(unix.NFT_META_PRIORITY), e.cmp(host32(e.value))}
}

// classOf is a priority as nft(8) writes it.
func classOf(priority uint32) string {
	if priority == 0 {
		return "none"
	}
	return fmt.Sprintf("%x:%x", priority>>16, priority&0xffff)
}

// SetPriority gives the packet a priority.
func SetPriority(value uint32) Expr { return setPriority{value} }

type setPriority struct{ value uint32 }

func (e setPriority) text() string { return "meta priority set " + classOf(e.value) }
func (e setPriority) code() []instruction {
	return []instruction{
		immediate(unix.NFT_REG_1, host32(e.value)), setMeta(unix.NFT_META_PRIORITY),
	}
}

// L4Proto matches packets of one transport protocol, by its IANA number.
func L4Proto(number byte) Expr { return l4proto{number} }

type l4proto struct{ number byte }

func (e l4proto) text() string { return fmt.Sprintf("meta l4proto %d", e.number) }
func (e l4proto) code() []instruction {
	return []instruction{meta(unix.NFT_META_L4PROTO), cmp([]byte{e.number})}
}

// IIFName matches the interface a packet came from; a name that ends in * is the
// beginning of a name.
func IIFName(name string) Match { return ifname{"iifname", unix.NFT_META_IIFNAME, name, is} }

// OIFName matches the interface a packet leaves by, named as for [IIFName].
func OIFName(name string) Match { return ifname{"oifname", unix.NFT_META_OIFNAME, name, is} }

type ifname struct {
	word string
	key  uint32
	name string
	relation
}

func (e ifname) not() Match   { e.relation = isNot; return e }
func (e ifname) text() string { return fmt.Sprintf("%s %s%q", e.word, e.relation.text(), e.name) }
func (e ifname) code() []instruction {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, e.name)
	if prefix, ok := strings.CutSuffix(e.name, "*"); ok {
		name = []byte(prefix)
	}
	return []instruction{meta(e.key), e.cmp(name)}
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
