package nft

import "golang.org/x/sys/unix"

// Accept ends the walk through this base chain; the packet goes on.
func Accept() Expr { return verdict{"accept", nfAccept, ""} }

// Drop ends the packet.
func Drop() Expr { return verdict{"drop", nfDrop, ""} }

// Goto continues in the named chain and does not come back.
func Goto(chain string) Expr { return verdict{"goto " + chain, unix.NFT_GOTO, chain} }

// Jump continues in the named chain and comes back at its end.
func Jump(chain string) Expr { return verdict{"jump " + chain, unix.NFT_JUMP, chain} }

// Return goes back to where the walk jumped to this chain.
func Return() Expr { return verdict{"return", unix.NFT_RETURN, ""} }

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

// Reject ends the packet and answers it: nobody listens on that port. It does not
// stand behind a match of one family, whose own answer nft(8) makes of it.
func Reject() Expr { return reject{"reject", unix.NFT_REJECT_ICMPX_PORT_UNREACH} }

// RejectProhibited is [Reject] with another answer: it is forbidden.
func RejectProhibited() Expr {
	return reject{"reject with icmpx admin-prohibited", unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}
}

type reject struct {
	word string
	with byte
}

func (e reject) text() string { return e.word }
func (e reject) code() []instruction {
	return []instruction{{"reject", []attr{
		u32(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_ICMPX_UNREACH), {typ: unix.NFTA_REJECT_ICMP_CODE, data: []byte{e.with}},
	}}}
}

// Counter counts the packets and bytes that get here.
func Counter() Expr { return counter{} }

type counter struct{}

func (counter) text() string        { return "counter" }
func (counter) code() []instruction { return []instruction{{"counter", nil}} }

// NoTrack keeps conntrack from tracking the packet. It stands before conntrack, in
// prerouting and output at raw priority.
func NoTrack() Expr { return noTrack{} }

type noTrack struct{}

func (noTrack) text() string        { return "notrack" }
func (noTrack) code() []instruction { return []instruction{{"notrack", nil}} }
