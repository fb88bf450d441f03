package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Accept ends the walk through this base chain; the packet goes on.
func Accept() Expr { return verdict{"accept", nfAccept, ""} }

// Drop ends the packet.
func Drop() Expr { return verdict{"drop", nfDrop, ""} }

// Goto continues in the named chain and does not come back.
func Goto(chain string) Expr { return verdict{"goto " + chain, unix.NFT_GOTO, chain} }

// From include/uapi/linux/netfilter.h.
const (
	nfDrop   = 0
	nfAccept = 1
)

type verdict struct {
	word   string
	number int32
	chain  string
}

func (e verdict) text() string { return e.word }
func (e verdict) code() []instruction {
	inner := []attr{u32(unix.NFTA_VERDICT_CODE, uint32(e.number))}
	if e.chain != "" {
		inner = append(inner, str(unix.NFTA_VERDICT_CHAIN, e.chain))
	}
	return []instruction{{"immediate", []attr{
		u32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT),
		nest(unix.NFTA_IMMEDIATE_DATA, nest(unix.NFTA_DATA_VERDICT, inner...)),
	}}}
}

// Counter counts the packets and bytes that get here.
func Counter() Expr { return counter{} }

type counter struct{}

func (counter) text() string        { return "counter" }
func (counter) code() []instruction { return []instruction{{"counter", nil}} }

// Flags of a source NAT, from include/uapi/linux/netfilter/nf_nat.h.
const (
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
