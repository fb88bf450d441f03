package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A Target is what [SetFrom] sets.
type Target int

// The targets in use, and the type of the values that each takes.
const (
	TargetPriority   Target = iota // the packet's priority: [ClassID]
	TargetCTMark                   // the connection's mark: [MarkType]
	TargetEtherDaddr               // the destination hardware address: [EtherAddr]; where there is a hardware header to write to
)

// SetFrom gives the target what a map has for the fields of the packet, together. A
// packet for which the map has nothing goes on to the next rule.
func SetFrom(t Target, f Family, set string, fields ...Field) Expr {
	return setFrom{t, key{f, fields}, set}
}

type setFrom struct {
	target Target
	key    key
	set    string
}

func (e setFrom) text() string {
	target := map[Target]string{TargetPriority: "meta priority", TargetCTMark: connection.text(), TargetEtherDaddr: "ether daddr"}[e.target]
	return fmt.Sprintf("%s set %s map @%s", target, e.key.text(), e.set)
}

func (e setFrom) code() []instruction {
	switch found := e.key.find(e.set); e.target {
	case TargetPriority:
		return append(found, setMeta(unix.NFT_META_PRIORITY))
	case TargetCTMark:
		return append(found, connection.store())
	default:
		return append(append(isEther(), found...), writeEtherDaddr())
	}
}

func writeEtherDaddr() instruction {
	return instruction{"payload", []attr{
		u32(unix.NFTA_PAYLOAD_SREG, unix.NFT_REG_1), u32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_LL_HEADER),
		u32(unix.NFTA_PAYLOAD_OFFSET, etherDaddr), u32(unix.NFTA_PAYLOAD_LEN, etherSize),
		u32(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_NONE), u32(unix.NFTA_PAYLOAD_CSUM_OFFSET, 0), u32(unix.NFTA_PAYLOAD_CSUM_FLAGS, 0),
	}}
}
