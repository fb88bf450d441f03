package nft

import (
	"strings"

	"golang.org/x/sys/unix"
)

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
	return append(isTCP(),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1),
		bitmask([]byte{byte(e.flags)}), compare(unix.NFT_CMP_NEQ, []byte{0}),
	)
}

func isTCP() []instruction {
	return []instruction{meta(unix.NFT_META_L4PROTO), cmp([]byte{unix.IPPROTO_TCP})}
}

// ClampMSS has both ends of a TCP connection send segments that fit the route on which
// the packet is: the option in a SYN becomes what the route's MTU allows, where it was
// more. It stands where packets leave or pass.
func ClampMSS() Expr { return clampMSS{} }

type clampMSS struct{}

func (clampMSS) text() string { return "tcp flags syn tcp option maxseg size set rt mtu" }

// code writes behind the option's kind and length; the kernel raises no value.
func (clampMSS) code() []instruction {
	const kind, offset, size = 2, 2, 2 // RFC 9293, 3.2
	return append(TCPFlags(SYN).code(),
		instruction{"rt", []attr{u32(unix.NFTA_RT_DREG, unix.NFT_REG_1), u32(unix.NFTA_RT_KEY, unix.NFT_RT_TCPMSS)}},
		instruction{"byteorder", []attr{
			u32(unix.NFTA_BYTEORDER_SREG, unix.NFT_REG_1), u32(unix.NFTA_BYTEORDER_DREG, unix.NFT_REG_1),
			u32(unix.NFTA_BYTEORDER_OP, unix.NFT_BYTEORDER_HTON), u32(unix.NFTA_BYTEORDER_LEN, size), u32(unix.NFTA_BYTEORDER_SIZE, size),
		}},
		instruction{"exthdr", []attr{
			u32(unix.NFTA_EXTHDR_SREG, unix.NFT_REG_1), {typ: unix.NFTA_EXTHDR_TYPE, data: []byte{kind}},
			u32(unix.NFTA_EXTHDR_OFFSET, offset), u32(unix.NFTA_EXTHDR_LEN, size),
			u32(unix.NFTA_EXTHDR_OP, unix.NFT_EXTHDR_OP_TCPOPT),
		}})
}
