package nft

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Field is a part of a packet that keys of sets and maps are made of. In the upper
// half is the mask of a mark.
type Field uint64

// The fields in use, and the type that each has in a set.
const (
	FieldSaddr Field = iota // source address: [Family.AddrType]
	FieldDaddr              // destination address: [Family.AddrType]
	FieldProto              // transport protocol: [InetProto]
	FieldDport              // destination port of TCP, UDP or SCTP: [InetService]
	FieldIIF                // link that it came in by: [IfName]
	// FieldOriginalDaddr is the destination of the connection's first packet, before any
	// translation: [Family.AddrType].
	FieldOriginalDaddr
	FieldPriority   // [ClassID]
	FieldEtherSaddr // source hardware address: [EtherAddr]; a word about it stands behind those about IP addresses
	FieldCTMark     // of the connection: [MarkType]; a connection's that there is not is in no set
	fieldMarkBits
	fieldCTMarkBits
)

// FieldMarkBits is the bits of mask in the packet's mark: [MarkType]. It stands alone.
func FieldMarkBits(mask uint32) Field { return fieldMarkBits | Field(mask)<<maskShift }

// FieldCTMarkBits is [FieldMarkBits] of the connection's mark.
func FieldCTMarkBits(mask uint32) Field { return fieldCTMarkBits | Field(mask)<<maskShift }

const maskShift = 32

func (f Field) kind() Field  { return f & (1<<maskShift - 1) }
func (f Field) mask() uint32 { return uint32(f >> maskShift) }

func (f Field) text(family Family) string {
	switch f.kind() {
	case FieldSaddr:
		return family.Keyword() + " saddr"
	case FieldDaddr:
		return family.Keyword() + " daddr"
	case FieldProto:
		return "meta l4proto"
	case FieldIIF:
		return "iifname"
	case FieldOriginalDaddr:
		return "ct original " + family.Keyword() + " daddr"
	case FieldPriority:
		return "meta priority"
	case FieldEtherSaddr:
		return "ether saddr"
	case FieldCTMark:
		return connection.text()
	case fieldMarkBits:
		return fmt.Sprintf("%s & %#x", packet.text(), f.mask())
	case fieldCTMarkBits:
		return fmt.Sprintf("%s & %#x", connection.text(), f.mask())
	default:
		return "th dport"
	}
}

// load puts f into a small register, and the following ones if it is long.
func (f Field) load(family Family, small int) instruction {
	to := register(small)
	switch f.kind() {
	case FieldProto:
		return metaTo(unix.NFT_META_L4PROTO, to)
	case FieldIIF:
		return metaTo(unix.NFT_META_IIFNAME, to)
	case FieldOriginalDaddr:
		key := map[Family]uint32{IPv4: nftCTDstIP, IPv6: nftCTDstIP6}[family]
		return instruction{"ct", []attr{u32(unix.NFTA_CT_KEY, key), u32(unix.NFTA_CT_DREG, to), {typ: unix.NFTA_CT_DIRECTION, data: []byte{byte(Original)}}}}
	case FieldPriority:
		return metaTo(unix.NFT_META_PRIORITY, to)
	case FieldEtherSaddr:
		return payloadTo(to, unix.NFT_PAYLOAD_LL_HEADER, etherSaddr, etherSize)
	case FieldCTMark, fieldCTMarkBits:
		return connection.loadTo(to)
	case fieldMarkBits:
		return packet.loadTo(to)
	case FieldDport:
		return payloadTo(to, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
	default:
		offset, size := f.place(family)
		return payloadTo(to, unix.NFT_PAYLOAD_NETWORK_HEADER, offset, size)
	}
}

// Keys of include/uapi/linux/netfilter/nf_tables.h, since Linux 4.17.
const (
	nftCTDstIP  = 20
	nftCTDstIP6 = 22
)

// Where addresses are in an Ethernet header, and what they take.
const (
	etherDaddr = 0
	etherSaddr = 6
	etherSize  = 6
)

// isEther is what nft(8) says before it looks at an Ethernet header.
func isEther() []instruction {
	return []instruction{meta(unix.NFT_META_IIFTYPE), cmp(binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER))}
}

// place is where an address stands in the network header.
func (f Field) place(family Family) (offset, size uint32) {
	offset, size = 12, 4
	if family == IPv6 {
		offset, size = 8, 16
	}
	if f == FieldDaddr {
		offset += size
	}
	return offset, size
}

func (f Field) typ(family Family) Type {
	switch f.kind() {
	case FieldProto:
		return InetProto
	case FieldDport:
		return InetService
	case FieldIIF:
		return IfName
	case FieldPriority:
		return ClassID
	case FieldEtherSaddr:
		return EtherAddr
	case FieldCTMark, fieldMarkBits, fieldCTMarkBits:
		return MarkType
	default:
		return family.AddrType()
	}
}

// A key is the fields of a packet that are looked up together.
type key struct {
	family Family
	fields []Field
}

func (k key) text() string {
	words := make([]string, len(k.fields))
	for i, f := range k.fields {
		words[i] = f.text(k.family)
	}
	return strings.Join(words, " . ")
}

// load puts the fields side by side from the first register on.
func (k key) load() []instruction {
	var out []instruction
	if slices.Contains(k.fields, FieldSaddr) || slices.Contains(k.fields, FieldDaddr) {
		out = isFamily(k.family)
	}
	if slices.Contains(k.fields, FieldEtherSaddr) {
		out = append(out, isEther()...)
	}
	small := 0
	for _, f := range k.fields {
		out = append(out, f.load(k.family, small))
		if f.mask() != 0 {
			out = append(out, bitmask(host32(f.mask())))
		}
		small += int(aligned(f.typ(k.family).size())) / registerSize
	}
	return out
}

// find writes what the map has for the key from the first register on.
func (k key) find(set string) []instruction {
	return append(k.load(), instruction{"lookup", []attr{
		str(unix.NFTA_LOOKUP_SET, set), u32(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1),
		u32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_1), u32(unix.NFTA_LOOKUP_FLAGS, 0),
	}})
}

// In matches packets whose fields, together, are in the named set.
func In(f Family, set string, fields ...Field) Match { return in{key{f, fields}, set, is} }

// SaddrIn matches packets whose source is in the named set.
func SaddrIn(f Family, set string) Match { return In(f, set, FieldSaddr) }

// DaddrIn matches packets whose destination is in the named set.
func DaddrIn(f Family, set string) Match { return In(f, set, FieldDaddr) }

// DaddrNotIn matches packets whose destination is not in the named set.
func DaddrNotIn(f Family, set string) Expr { return Not(DaddrIn(f, set)) }

type in struct {
	key key
	set string
	relation
}

func (e in) not() Match   { e.relation = isNot; return e }
func (e in) text() string { return fmt.Sprintf("%s %s@%s", e.key.text(), e.relation.text(), e.set) }
func (e in) code() []instruction {
	return append(e.key.load(), lookup(e.set, e.relation == isNot))
}
