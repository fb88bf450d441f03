package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A bearer is what has a mark: a packet or its connection.
type bearer string

const (
	packet     bearer = "meta"
	connection bearer = "ct"
)

func (b bearer) text() string { return string(b) + " mark" }

func (b bearer) loadTo(to uint32) instruction {
	if b == connection {
		return ctTo(unix.NFT_CT_MARK, to)
	}
	return metaTo(unix.NFT_META_MARK, to)
}

func (b bearer) load() instruction { return b.loadTo(unix.NFT_REG_1) }

// store gives b the mark in the first register.
func (b bearer) store() instruction {
	if b == connection {
		return instruction{"ct", []attr{u32(unix.NFTA_CT_KEY, unix.NFT_CT_MARK), u32(unix.NFTA_CT_SREG, unix.NFT_REG_1)}}
	}
	return setMeta(unix.NFT_META_MARK)
}

// Mark matches packets whose mark has value in the bits of mask.
func Mark(mask, value uint32) Match { return markIs{packet, mask, value, is} }

// CTMark is [Mark] for the mark of the packet's connection. A packet that has none has
// no mark to compare: it is matched by neither this nor its opposite.
func CTMark(mask, value uint32) Match { return markIs{connection, mask, value, is} }

type markIs struct {
	of          bearer
	mask, value uint32
	relation
}

func (e markIs) not() Match { e.relation = isNot; return e }
func (e markIs) text() string {
	op := map[relation]string{is: "==", isNot: "!="}[e.relation]
	return fmt.Sprintf("%s & %#x %s %#x", e.of.text(), e.mask, op, e.value)
}

func (e markIs) code() []instruction {
	return []instruction{e.of.load(), bitmask(host32(e.mask)), e.cmp(host32(e.value))}
}

// MarkAs gives the bits of mask in the packet's mark a value, and leaves the others.
func MarkAs(mask, value uint32) Expr { return markAs{packet, mask, value} }

// CTMarkAs is [MarkAs] for the mark of the packet's connection.
func CTMarkAs(mask, value uint32) Expr { return markAs{connection, mask, value} }

type markAs struct {
	of          bearer
	mask, value uint32
}

func (e markAs) text() string {
	s := fmt.Sprintf("%s set %s & %#x", e.of.text(), e.of.text(), ^e.mask)
	if e.value != 0 {
		s += fmt.Sprintf(" | %#x", e.value)
	}
	return s
}

func (e markAs) code() []instruction {
	return []instruction{e.of.load(), bitwise(host32(^e.mask), host32(e.value)), e.of.store()}
}

// MarkFromCT gives the packet the mark of its connection.
func MarkFromCT() Expr { return markFromCT{} }

type markFromCT struct{}

func (markFromCT) text() string        { return packet.text() + " set " + connection.text() }
func (markFromCT) code() []instruction { return []instruction{connection.load(), packet.store()} }

// CTMarkFromHash gives the connection one of n marks, from 0 on, by the destination of
// the packet and the seed: the same for the same.
func CTMarkFromHash(f Family, n, seed uint32) Expr { return ctMarkFromHash{f, n, seed} }

type ctMarkFromHash struct {
	family  Family
	n, seed uint32
}

func (e ctMarkFromHash) text() string {
	return fmt.Sprintf("%s set jhash %s mod %d seed %#x", connection.text(), FieldDaddr.text(e.family), e.n, e.seed)
}

// code has what is hashed in the second register, as nft(8) does.
func (e ctMarkFromHash) code() []instruction {
	_, size := FieldDaddr.place(e.family)
	return append(isFamily(e.family),
		FieldDaddr.load(e.family, wholeRegister),
		instruction{"hash", []attr{
			u32(unix.NFTA_HASH_SREG, unix.NFT_REG_2), u32(unix.NFTA_HASH_DREG, unix.NFT_REG_1), u32(unix.NFTA_HASH_LEN, size),
			u32(unix.NFTA_HASH_MODULUS, e.n), u32(unix.NFTA_HASH_SEED, e.seed), u32(unix.NFTA_HASH_TYPE, unix.NFT_HASH_JENKINS),
		}},
		connection.store())
}
