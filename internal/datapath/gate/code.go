package gate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Offsets in struct __sk_buff (include/uapi/linux/bpf.h), and verdicts of tcx.
const (
	skbProtocol, skbPriority, skbData, skbDataEnd = 16, 32, 76, 80
	next, drop                                    = -1, 2
)

// Offsets in a packet, which begins with its Ethernet header, and the length that
// the headers of each family have. Offsets of IPv6 extension headers vary.
const (
	senderARP, endARP        = 14 + 14, 14 + 28
	saddr4, daddr4, end4     = 14 + 12, 14 + 16, 14 + 20
	nextHeader, saddr6, end6 = 14 + 6, 14 + 8, 14 + 40
)

// Registers that helpers leave alone.
const (
	skb  = asm.R6
	data = asm.R7 // of the packet; later, in neighbours, whether it is from ::
	at   = asm.R8 // offset of what follows the IPv6 header
)

// A Reason is why a packet is refused.
type Reason int

// The reasons there are.
const (
	Forged   Reason = iota // its source is not one of the gate's
	Loopback               // it is for the node's loopback
	Injected               // it has another priority
	Leaking                // it is not for whom its source may send to
	reasons
)

var reasonNames = [reasons]string{"forged", "loopback", "injected", "leaking"}

// String is the reason in one word.
func (r Reason) String() string { return reasonNames[r] }

// maps are descriptors of the maps that a program uses; that of a missing one is 0.
type maps struct{ refused, sources, recent int }

// nameOf is the name of the program with the given instructions, whatever maps they
// use: BPF_OBJ_NAME_LEN leaves room for 15 characters.
func nameOf(code asm.Instructions) string {
	var b []byte
	for _, i := range code {
		constant := i.Constant
		if i.IsLoadFromMap() {
			constant &^= math.MaxUint32 // the map's descriptor
		}
		b = append(b, byte(i.Dst), byte(i.Src))
		for _, v := range []int64{int64(i.OpCode), int64(i.Offset), constant} {
			b = binary.NativeEndian.AppendUint64(b, uint64(v))
		}
		b = append(append(b, i.Symbol()...), 0)
		b = append(append(b, i.Reference()...), 0)
	}
	sum := sha256.Sum256(b)
	return Prefix + hex.EncodeToString(sum[:6])
}

// code is the instructions of a gate.
func code(g Gate, m maps) asm.Instructions {
	if g.Egress {
		return append(leaving(g, m), verdicts(m, Leaking)...)
	}
	out := asm.Instructions{asm.Mov.Reg(skb, asm.R1)}
	if g.Priority != 0 {
		out = append(out,
			asm.LoadMem(asm.R0, skb, skbPriority, asm.Word),
			asm.JNE.Imm32(asm.R0, int32(g.Priority), Injected.String()))
	}
	out = append(out, whereChecksum(skBuffHere())...)
	out = append(out,
		asm.LoadMem(asm.R0, skb, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R0, networkOrder(unix.ETH_P_IP), "ipv4"),
		asm.JEq.Imm(asm.R0, networkOrder(unix.ETH_P_IPV6), "ipv6"),
		// Nothing else leads to the network layer: a second VLAN tag of VLAN 0 would.
		asm.JEq.Imm(asm.R0, networkOrder(unix.ETH_P_ARP), "arp"),
		asm.Ja.Label(Forged.String()))
	out = append(out, arp()...)
	out = append(out, ipv4(g, m)...)
	out = append(out, ipv6(g, m)...)
	if g.Priority == 0 {
		return append(out, verdicts(m, Forged, Loopback)...)
	}
	return append(out, verdicts(m, Forged, Loopback, Injected)...)
}

// verdicts is where packets are refused, for the reasons given, or pass. The verifier
// wants no instruction that is never reached.
func verdicts(m maps, reasons ...Reason) (out asm.Instructions) {
	for _, r := range reasons {
		out = append(out,
			asm.LoadMapValue(asm.R2, m.refused, uint32(8*r)).WithSymbol(r.String()),
			asm.Ja.Label("refuse"))
	}
	return append(out,
		asm.Mov.Imm(asm.R1, 1).WithSymbol("refuse"),
		asm.AddAtomic.Mem(asm.R2, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, drop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, next).WithSymbol("pass"),
		asm.Return())
}

func networkOrder(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

// headers begins the part of one family: the headers can be read, from data on.
func headers(family string, length int32) asm.Instructions {
	enough := family + " enough"
	look := func() asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(data, skb, skbData, asm.Word),
			asm.LoadMem(asm.R3, skb, skbDataEnd, asm.Word),
			asm.Mov.Reg(asm.R2, data),
			asm.Add.Imm(asm.R2, length),
		}
	}
	out := look()
	out[0] = out[0].WithSymbol(family)
	out = append(out, asm.JLE.Reg(asm.R2, asm.R3, enough),
		asm.Mov.Reg(asm.R1, skb), asm.Mov.Imm(asm.R2, length), asm.FnSkbPullData.Call())
	out = append(out, look()...)
	return append(out, asm.JGT.Reg(asm.R2, asm.R3, Forged.String()),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(enough))
}

// arp is for whom the sender says to be: each becomes a neighbour of the node, whose
// table is one for all. Who has no address yet asks from 0.0.0.0 (RFC 5227).
func arp() asm.Instructions {
	return append(headers("arp", endARP),
		asm.LoadMem(asm.R5, data, senderARP, asm.Word),
		asm.JEq.Imm(asm.R5, 0, "pass"),
		asm.Ja.Label("ipv4 sources"))
}

func ipv4(g Gate, m maps) asm.Instructions {
	out := append(headers("ipv4", end4), behindPorts4()...)
	out = append(out,
		asm.LoadMem(asm.R0, data, daddr4, asm.Byte),
		asm.JEq.Imm(asm.R0, 127, Loopback.String()),
		asm.LoadMem(asm.R5, data, saddr4, asm.Word),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("ipv4 sources"))
	if g.hasTrie() {
		find := asm.Instructions{asm.StoreMem(asm.RFP, keyAt(2), asm.R5, asm.Word), storeWord(3, 0), storeWord(4, 0), storeWord(5, 0)}
		return append(out, remembered(m, append(find, lookUp(m, family4, "remember", Forged.String())...))...)
	}
	for i, p := range g.Sources {
		if p.Addr().Is4() {
			out = append(out, compare(p, []asm.Register{asm.R5}, "pass", fmt.Sprintf("ipv4 not %d", i))...)
		}
	}
	return append(out, asm.Ja.Label(Forged.String()))
}

func ipv6(g Gate, m maps) asm.Instructions {
	words := []asm.Register{asm.R2, asm.R3, asm.R4, asm.R5}
	out := append(headers("ipv6", end6), behindPorts6()...)
	for i, w := range words {
		out = append(out, asm.LoadMem(w, data, int16(saddr6+4*i), asm.Word))
	}
	otherwise := Forged.String()
	if g.Neighbour.IsValid() {
		otherwise = "neighbours"
	}
	if g.hasTrie() {
		for i, w := range words {
			out = append(out, asm.StoreMem(asm.RFP, keyAt(i+2), w, asm.Word))
		}
		out = append(out, lookUp(m, family6, "pass", otherwise)...)
	} else {
		for i, p := range g.Sources {
			if p.Addr().Is6() {
				out = append(out, compare(p, words, "pass", fmt.Sprintf("ipv6 not %d", i))...)
			}
		}
		out = append(out, asm.Ja.Label(otherwise))
	}
	if g.Neighbour.IsValid() {
		out = append(out, neighbours(g.Neighbour, words)...)
	}
	return out
}

// compare goes on elsewhere with what is from p, whose address is in the words; else
// behind itself.
func compare(p netip.Prefix, words []asm.Register, then, not string) asm.Instructions {
	var out asm.Instructions
	address := p.Addr().AsSlice()
	for i, w := range words {
		bits := max(min(p.Bits()-32*i, 32), 0)
		if bits == 0 {
			break
		}
		value := int32(binary.NativeEndian.Uint32(address[4*i:]))
		if bits < 32 {
			mask := int32(binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-bits))))
			out = append(out, asm.Mov.Reg(asm.R0, w), asm.And.Imm32(asm.R0, mask))
			w, value = asm.R0, value&mask
		}
		out = append(out, asm.JNE.Imm32(w, value, not))
	}
	return append(out, asm.Ja.Label(then), asm.Mov.Imm(asm.R0, 0).WithSymbol(not))
}

// keyAt is where word i of a key of the trie stands on the stack: the length of the
// prefix, the family, and the address.
func keyAt(i int) int16 { return int16(-keyLength + 4*i) }

func storeWord(i int, v int32) asm.Instruction {
	return asm.StoreImm(asm.RFP, keyAt(i), int64(v), asm.Word)
}

// lookUp goes on at found with what is in the trie, of the address that stands in the
// key.
func lookUp(m maps, family int32, found, otherwise string) asm.Instructions {
	return asm.Instructions{
		storeWord(0, familyBits+bitsOf[family]), storeWord(1, family),
		asm.LoadMapPtr(asm.R1, m.sources),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, int32(keyAt(0))),
		asm.FnMapLookupElem.Call(),
		asm.JNE.Imm(asm.R0, 0, found),
		asm.Ja.Label(otherwise),
	}
}

// Types of ICMPv6 (RFC 4861, RFC 2710, RFC 3810).
const (
	reportType, reportTwoType             = 131, 143
	advertType, solicitType, redirectType = 134, 135, 137
)

// neighbours is for what is from the pod's link-local address or from none yet.
// Behind the IPv6 header, or hop-by-hop options, which reports of multicast have,
// stands the transport itself: behind other extension headers could be what routers
// say.
func neighbours(own netip.Addr, words []asm.Register) asm.Instructions {
	out := asm.Instructions{asm.LoadMem(asm.R1, data, nextHeader, asm.Byte).WithSymbol("neighbours"), asm.Mov.Imm(data, 0)}
	is := func(a netip.Addr, label string) {
		b := a.AsSlice()
		for i, w := range words {
			out = append(out, asm.JNE.Imm32(w, int32(binary.NativeEndian.Uint32(b[4*i:])), label))
		}
	}
	is(own, "unspecified")
	out = append(out, asm.Ja.Label("neighbour"), asm.Mov.Imm(data, 1).WithSymbol("unspecified"))
	is(netip.IPv6Unspecified(), Forged.String())
	out = append(out, asm.Mov.Imm(at, end6).WithSymbol("neighbour"), asm.JNE.Imm(asm.R1, unix.IPPROTO_HOPOPTS, "transport"))
	out = append(out, load(2)...)
	out = append(out,
		asm.LoadMem(asm.R1, asm.RFP, -8, asm.Byte),
		asm.LoadMem(asm.R2, asm.RFP, -7, asm.Byte), // in 8 octets, without the first
		asm.LSh.Imm(asm.R2, 3), asm.Add.Imm(at, 8), asm.Add.Reg(at, asm.R2),
		asm.JEq.Imm(asm.R1, unix.IPPROTO_ICMPV6, "icmpv6").WithSymbol("transport"),
		asm.JNE.Imm(data, 0, Forged.String()))
	for _, proto := range []int32{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP} {
		out = append(out, asm.JEq.Imm(asm.R1, proto, "pass"))
	}
	out = append(out, asm.Ja.Label(Forged.String()), asm.Mov.Imm(asm.R0, 0).WithSymbol("icmpv6"))
	out = append(out, load(1)...)
	return append(out,
		asm.LoadMem(asm.R1, asm.RFP, -8, asm.Byte),
		asm.JNE.Imm(data, 0, "solicits"),
		asm.JEq.Imm(asm.R1, advertType, Forged.String()),
		asm.JEq.Imm(asm.R1, redirectType, Forged.String()),
		asm.Ja.Label("pass"),
		asm.JEq.Imm(asm.R1, solicitType, "pass").WithSymbol("solicits"),
		asm.JEq.Imm(asm.R1, reportType, "pass"),
		asm.JEq.Imm(asm.R1, reportTwoType, "pass"),
		asm.Ja.Label(Forged.String()))
}

// load puts the bytes at the offset on the stack. They are made part of the packet
// proper first: whoever sent it may be able to write to where they were, and what
// follows would read something else there.
func load(length int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, skb), asm.Mov.Reg(asm.R2, at), asm.Add.Imm(asm.R2, length),
		asm.FnSkbPullData.Call(),
		asm.JNE.Imm(asm.R0, 0, Forged.String()),
		asm.Mov.Reg(asm.R1, skb), asm.Mov.Reg(asm.R2, at),
		asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, -8), asm.Mov.Imm(asm.R4, length),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, Forged.String()),
	}
}
