package gate

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// At the exit a packet is as it leaves, whatever was to be done with it before. Who
// answers somebody of the outside who knows the way to him answers as himself; who
// asked first has to be translated. conntrack knows who did, and the kernel's type
// information where it is written.

// fromNetwork counts from the network header: there are links without others before
// it (BPF_HDR_START_NET in include/uapi/linux/bpf.h).
const fromNetwork = 1

// leaving judges what leaves.
func leaving(g Gate, m maps) asm.Instructions {
	out := asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMem(asm.R0, skb, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R0, networkOrder(unix.ETH_P_IP), "ipv4"),
		asm.JNE.Imm(asm.R0, networkOrder(unix.ETH_P_IPV6), "pass"),
	}
	out = append(out, leavingOf(family6, g, m)...)
	v4 := leavingOf(family4, g, m)
	v4[0] = v4[0].WithSymbol("ipv4")
	return append(append(out, v4...), unlessAnswer(skBuffHere())...)
}

// What _nfct of struct sk_buff says besides where the entry is (include/linux/skbuff.h,
// include/uapi/linux/netfilter/nf_conntrack_common.h).
const (
	infoMask                       = 7
	establishedReply, relatedReply = 3, 4
	destinationNAT                 = 1 << 5 // IPS_DST_NAT
)

// KnowsTranslation reports whether gates at the exit tell who was asked at an address of
// the node, and has to be answered by it.
func KnowsTranslation() bool { return skBuffHere().conn != (conn{}) }

// unlessAnswer refuses what is for the outside, but for answers to what was sent to the
// pod itself: who asked at an address of the node is answered by that.
func unlessAnswer(s skBuff) asm.Instructions {
	out := asm.Instructions{
		asm.Mov.Reg(asm.R1, skb).WithSymbol("outside"),
		s.castToKernel(),
		asm.LoadMem(asm.R1, asm.R0, s.tracked, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, infoMask),
		asm.JEq.Imm(asm.R2, establishedReply, "answer"),
		asm.JNE.Imm(asm.R2, relatedReply, Leaking.String()),
		asm.And.Imm(asm.R1, ^infoMask).WithSymbol("answer"),
	}
	if s.conn != (conn{}) {
		out = append(out,
			asm.Mov.Imm(asm.R2, int32(s.conn.id)),
			kernelCall(s.conn.cast),
			asm.LoadMem(asm.R1, asm.R0, s.conn.status, asm.DWord),
			asm.And.Imm(asm.R1, destinationNAT),
			asm.JNE.Imm(asm.R1, 0, Leaking.String()))
	}
	return append(out, asm.Ja.Label("pass"))
}

// leavingOf judges packets of a family, whose source stands in the header before the
// destination.
func leavingOf(family int32, g Gate, m maps) asm.Instructions {
	offset, words := int32(saddr6), []asm.Register{asm.R2, asm.R3, asm.R4, asm.R5}
	if family == family4 {
		offset, words = saddr4, words[:1]
	}
	length := int16(4 * len(words))
	source := keyAt(2) - length // on the stack, so that the destination stands in the key
	out := asm.Instructions{
		asm.Mov.Reg(asm.R1, skb), asm.Mov.Imm(asm.R2, offset-14),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, int32(source)),
		asm.Mov.Imm(asm.R4, 2*int32(length)), asm.Mov.Imm(asm.R5, fromNetwork),
		asm.FnSkbLoadBytesRelative.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"), // it has no header, and nobody forwarded it
	}
	for i, w := range words {
		out = append(out, asm.LoadMem(w, asm.RFP, source+int16(4*i), asm.Word))
	}
	watched, any := fmt.Sprintf("watched %d", family), false
	for i, p := range g.Sources {
		if p.Addr().BitLen() == int(bitsOf[family]) {
			out = append(out, compare(p, words, watched, fmt.Sprintf("not %d of %d", i, family))...)
			any = true
		}
	}
	out = append(out, asm.Ja.Label("pass"))
	if !any {
		return out
	}
	out = append(out, asm.Mov.Imm(asm.R0, 0).WithSymbol(watched))
	for i := len(words) + 2; i < keyLength/4; i++ {
		out = append(out, storeWord(i, 0))
	}
	return append(out, lookUp(m, family, "pass", "outside")...)
}
