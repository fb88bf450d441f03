package gate

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Who sends a packet may leave its checksum to whom it leaves the node by, and say
// where that is: PACKET_VNET_HDR of packet(7) takes any place. Written where an
// address or a port is, it changes what was let in, behind all that look at it. So
// it has to be behind both.

// portsEnd is how far behind the IP header a checksum may be at the earliest: that of
// UDP. Offset and size of IPv4's field for the length of its header.
const (
	portsEnd     = 6
	headerLength = 14
)

// checksum is the register that holds where the checksum will be written: an offset in
// the packet, or farAway if nobody will.
const (
	checksum = asm.R9
	farAway  = 1 << 20
	// checksumPartial is CHECKSUM_PARTIAL (include/linux/skbuff.h).
	checksumPartial = 3
)

// An skBuff is where the kernel's struct sk_buff has what no helper tells. The zero
// value is that of a kernel that does not say.
type skBuff struct {
	cast                           btf.TypeID // of bpf_cast_to_kern_ctx
	head, data, csumStart, csumOff int16
	summed                         int16 // the byte that has ip_summed,
	shift                          int32 // and where in it
	tracked                        int16 // _nfct, which leads to a
	conn                           conn
}

// A conn is what there is to read struct nf_conn with. The zero value is that of a kernel
// that does not say, as where conntrack is a module and its types are there only.
type conn struct {
	cast   btf.TypeID // of bpf_rdonly_cast
	id     btf.TypeID
	status int16
}

var skBuffHere = sync.OnceValue(func() skBuff {
	s, err := readSkBuff()
	if err != nil {
		return skBuff{}
	}
	return s
})

func readSkBuff() (skBuff, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return skBuff{}, err
	}
	var cast *btf.Func
	var buff *btf.Struct
	if err := spec.TypeByName("bpf_cast_to_kern_ctx", &cast); err != nil {
		return skBuff{}, err
	}
	if err := spec.TypeByName("sk_buff", &buff); err != nil {
		return skBuff{}, err
	}
	id, err := spec.TypeID(cast)
	if err != nil {
		return skBuff{}, err
	}
	at := map[string]btf.Bits{}
	offsets(buff.Members, 0, at)
	for _, name := range []string{"head", "data", "csum_start", "csum_offset", "ip_summed", "_nfct"} {
		if _, is := at[name]; !is {
			return skBuff{}, fmt.Errorf("struct sk_buff has no %s", name)
		}
	}
	bytes := func(name string) int16 { return int16(at[name] / 8) }
	return skBuff{id, bytes("head"), bytes("data"), bytes("csum_start"), bytes("csum_offset"), bytes("ip_summed"), int32(at["ip_summed"] % 8),
		bytes("_nfct"), readConn(spec)}, nil
}

func readConn(spec *btf.Spec) conn {
	var cast *btf.Func
	var of *btf.Struct
	if spec.TypeByName("bpf_rdonly_cast", &cast) != nil || spec.TypeByName("nf_conn", &of) != nil {
		return conn{}
	}
	castID, err := spec.TypeID(cast)
	if err != nil {
		return conn{}
	}
	id, err := spec.TypeID(of)
	at := map[string]btf.Bits{}
	offsets(of.Members, 0, at)
	status, is := at["status"]
	if err != nil || !is {
		return conn{}
	}
	return conn{castID, id, int16(status / 8)}
}

// offsets notes where the members are, and those of structures without a name.
func offsets(members []btf.Member, from btf.Bits, at map[string]btf.Bits) {
	for _, m := range members {
		if m.Name != "" {
			at[m.Name] = from + m.Offset
			continue
		}
		switch t := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			offsets(t.Members, from+m.Offset, at)
		case *btf.Union:
			offsets(t.Members, from+m.Offset, at)
		}
	}
}

// castToKernel calls bpf_cast_to_kern_ctx.
func (s skBuff) castToKernel() asm.Instruction { return kernelCall(s.cast) }

func kernelCall(function btf.TypeID) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: int64(function)}
}

// whereChecksum finds out where the checksum will be written.
func whereChecksum(s skBuff) asm.Instructions {
	out := asm.Instructions{asm.Mov.Imm(checksum, farAway)}
	if s == (skBuff{}) {
		return out
	}
	return append(out,
		asm.Mov.Reg(asm.R1, skb),
		s.castToKernel(),
		asm.LoadMem(asm.R1, asm.R0, s.summed, asm.Byte),
		asm.RSh.Imm(asm.R1, s.shift), asm.And.Imm(asm.R1, 3),
		asm.JNE.Imm(asm.R1, checksumPartial, "finished"),
		asm.LoadMem(checksum, asm.R0, s.csumStart, asm.Half),
		asm.LoadMem(asm.R1, asm.R0, s.csumOff, asm.Half), asm.Add.Reg(checksum, asm.R1),
		asm.LoadMem(asm.R1, asm.R0, s.head, asm.DWord), asm.Add.Reg(checksum, asm.R1),
		asm.LoadMem(asm.R1, asm.R0, s.data, asm.DWord), asm.Sub.Reg(checksum, asm.R1),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("finished"))
}

// behindPorts4 refuses an IPv4 packet whose checksum would be written into its header
// or its ports.
func behindPorts4() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R0, data, headerLength, asm.Byte),
		asm.And.Imm(asm.R0, 0xf), asm.LSh.Imm(asm.R0, 2), asm.Add.Imm(asm.R0, 14+portsEnd),
		asm.JSLT.Reg(checksum, asm.R0, Forged.String()),
	}
}

// behindPorts6 is the same for IPv6 without extension headers.
func behindPorts6() asm.Instructions {
	return asm.Instructions{asm.JSLT.Imm(checksum, end6+portsEnd, Forged.String())}
}
