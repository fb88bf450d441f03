package nft

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// An instruction is one expression of the kernel's nftables machine: a name and
// its attributes.
type instruction struct {
	name  string
	attrs []attr
}

// An attr is a netlink attribute: data, or attributes inside it.
type attr struct {
	typ    uint16
	data   []byte
	nested []attr
}

// wholeRegister is how many small registers are one of 16 bytes, as nft(8) gives one to
// each value.
const wholeRegister = 16 / registerSize

// register is the name of the kernel's small register i. The first of each
// register of 16 bytes goes by that one's name, as the kernel lists it.
func register(i int) uint32 {
	if i%wholeRegister == 0 {
		return unix.NFT_REG_1 + uint32(i/wholeRegister)
	}
	return unix.NFT_REG32_00 + uint32(i)
}

func meta(key uint32) instruction { return metaTo(key, unix.NFT_REG_1) }

func metaTo(key, to uint32) instruction {
	return instruction{"meta", []attr{u32(unix.NFTA_META_KEY, key), u32(unix.NFTA_META_DREG, to)}}
}

// setMeta gives the packet what the first register holds.
func setMeta(key uint32) instruction {
	return instruction{"meta", []attr{u32(unix.NFTA_META_KEY, key), u32(unix.NFTA_META_SREG, unix.NFT_REG_1)}}
}

func ct(key uint32) instruction { return ctTo(key, unix.NFT_REG_1) }

func ctTo(key, to uint32) instruction {
	return instruction{"ct", []attr{u32(unix.NFTA_CT_KEY, key), u32(unix.NFTA_CT_DREG, to)}}
}

func payload(base, offset, size uint32) instruction {
	return payloadTo(unix.NFT_REG_1, base, offset, size)
}

func payloadTo(to, base, offset, size uint32) instruction {
	return instruction{"payload", []attr{
		u32(unix.NFTA_PAYLOAD_DREG, to), u32(unix.NFTA_PAYLOAD_BASE, base),
		u32(unix.NFTA_PAYLOAD_OFFSET, offset), u32(unix.NFTA_PAYLOAD_LEN, size),
	}}
}

func cmp(value []byte) instruction { return compare(unix.NFT_CMP_EQ, value) }

func compare(op uint32, value []byte) instruction {
	return instruction{"cmp", []attr{
		u32(unix.NFTA_CMP_SREG, unix.NFT_REG_1), u32(unix.NFTA_CMP_OP, op), data(unix.NFTA_CMP_DATA, value),
	}}
}

func bitmask(mask []byte) instruction { return bitwise(mask, make([]byte, len(mask))) }

// bitwise keeps the bits of mask, and turns those of xor.
func bitwise(mask, xor []byte) instruction {
	return instruction{"bitwise", []attr{
		u32(unix.NFTA_BITWISE_SREG, unix.NFT_REG_1), u32(unix.NFTA_BITWISE_DREG, unix.NFT_REG_1),
		u32(unix.NFTA_BITWISE_LEN, uint32(len(mask))), u32(nftaBitwiseOp, nftBitwiseBool),
		data(unix.NFTA_BITWISE_MASK, mask), data(unix.NFTA_BITWISE_XOR, xor),
	}}
}

func lookup(set string, not bool) instruction {
	var flags uint32
	if not {
		flags = unix.NFT_LOOKUP_F_INV
	}
	return instruction{"lookup", []attr{
		str(unix.NFTA_LOOKUP_SET, set), u32(unix.NFTA_LOOKUP_SREG, unix.NFT_REG_1), u32(unix.NFTA_LOOKUP_FLAGS, flags),
	}}
}

func immediate(register uint32, value []byte) instruction {
	return instruction{"immediate", []attr{u32(unix.NFTA_IMMEDIATE_DREG, register), data(unix.NFTA_IMMEDIATE_DATA, value)}}
}

func u32(typ uint16, v uint32) attr       { return attr{typ: typ, data: be32(v)} }
func str(typ uint16, s string) attr       { return attr{typ: typ, data: append([]byte(s), 0)} }
func raw(typ uint16, b []byte) attr       { return attr{typ: typ, data: b} }
func nest(typ uint16, inner ...attr) attr { return attr{typ: typ, nested: inner} }
func data(typ uint16, value []byte) attr  { return nest(typ, raw(unix.NFTA_DATA_VALUE, value)) }
func be32(v uint32) []byte                { return binary.BigEndian.AppendUint32(nil, v) }
func be64(v uint64) []byte                { return binary.BigEndian.AppendUint64(nil, v) }
func be16(v uint16) []byte                { return binary.BigEndian.AppendUint16(nil, v) }

// host32 is a number that the kernel keeps in the host's order.
func host32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// code is the whole rule. A match that was made before in the same rule is not
// repeated: two words may both need "this is IPv4", as nft(8) knows too.
func (r Rule) code() []instruction {
	var out []instruction
	made := map[string]bool{}
	for _, e := range r {
		code := e.code()
		for len(code) >= 2 && code[0].name == "meta" && code[1].name == "cmp" {
			match := string(encode(append(code[0].attrs, code[1].attrs...)))
			if !made[match] {
				made[match] = true
				break
			}
			code = code[2:]
		}
		out = append(out, code...)
	}
	return out
}

// expressions is the rule as the kernel's NFTA_RULE_EXPRESSIONS holds it.
func (r Rule) expressions() []attr {
	var out []attr
	for _, i := range r.code() {
		out = append(out, nest(unix.NFTA_LIST_ELEM,
			str(unix.NFTA_EXPR_NAME, i.name), nest(unix.NFTA_EXPR_DATA, i.attrs...)))
	}
	return out
}

// encode lays attributes out as netlink does: length, type, data, padding.
func encode(attrs []attr) []byte {
	var b []byte
	for _, a := range attrs {
		body, typ := a.data, a.typ
		if a.nested != nil || a.data == nil {
			body, typ = encode(a.nested), typ|unix.NLA_F_NESTED
		}
		b = binary.NativeEndian.AppendUint16(b, uint16(4+len(body)))
		b = binary.NativeEndian.AppendUint16(b, typ)
		b = append(b, body...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// An attrSet is attributes read from the kernel, by type; the last of a type
// counts.
type attrSet map[uint16][]byte

// list walks the attributes in b in order. A truncated attribute ends the walk.
func list(b []byte, visit func(typ uint16, body []byte)) {
	for len(b) >= 4 {
		size, typ := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return
		}
		visit(typ&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:size])
		b = b[min(len(b), (size+3)&^3):]
	}
}

func decode(b []byte) attrSet {
	out := attrSet{}
	list(b, func(typ uint16, body []byte) { out[typ] = body })
	return out
}

func (s attrSet) u32(typ uint16) uint32 {
	if len(s[typ]) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(s[typ])
}

func (s attrSet) u64(typ uint16) uint64 {
	if len(s[typ]) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(s[typ])
}

func (s attrSet) str(typ uint16) string { return string(bytes.TrimRight(s[typ], "\x00")) }

// same reports whether the attributes found at the kernel say what want says. An
// attribute above those that this package knows comes from a newer kernel and
// is not compared; one that it knows and did not ask for is a difference.
func same(want []attr, found attrSet, known uint16) bool {
	for typ := range found {
		if typ <= known && !asked(want, typ) {
			return false
		}
	}
	for _, w := range want {
		body, ok := found[w.typ]
		if !ok {
			return false
		}
		if w.data == nil {
			if !same(w.nested, decode(body), highest(w.nested)) {
				return false
			}
		} else if !bytes.Equal(w.data, body) {
			return false
		}
	}
	return true
}

func asked(want []attr, typ uint16) bool {
	for _, w := range want {
		if w.typ == typ {
			return true
		}
	}
	return false
}

func highest(attrs []attr) uint16 {
	var h uint16
	for _, a := range attrs {
		h = max(h, a.typ)
	}
	return h
}

// Not in x/sys; from include/uapi/linux/netfilter/nf_tables.h.
const (
	nftaBitwiseOp   = 6
	nftaBitwiseData = 7
	nftBitwiseBool  = 0
)

// untold is the attribute of an expression that the kernel lists and refuses to be told:
// here the flags of what is written (nft_exthdr_tcp_set_init of net/netfilter/nft_exthdr.c).
var untold = map[string]uint16{"exthdr": unix.NFTA_EXTHDR_FLAGS}

// known is the highest attribute of each expression that this package speaks.
var known = map[string]uint16{
	"masq": unix.NFTA_MASQ_REG_PROTO_MAX, "lookup": unix.NFTA_LOOKUP_FLAGS, "meta": unix.NFTA_META_SREG,
	"ct": unix.NFTA_CT_SREG, "payload": unix.NFTA_PAYLOAD_CSUM_FLAGS,
	"bitwise": nftaBitwiseData, "cmp": unix.NFTA_CMP_DATA, "immediate": unix.NFTA_IMMEDIATE_DATA,
	"byteorder": unix.NFTA_BYTEORDER_SIZE, "fib": unix.NFTA_FIB_FLAGS, "nat": unix.NFTA_NAT_FLAGS,
	"hash": unix.NFTA_HASH_TYPE, "rt": unix.NFTA_RT_KEY, "exthdr": unix.NFTA_EXTHDR_SREG,
}
