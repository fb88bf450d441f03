package nft

import (
	"strings"

	"golang.org/x/sys/unix"
)

// CTState matches packets by what conntrack says of their connection.
func CTState(states CTStates) Expr {
	return ctBits{"state", unix.NFT_CT_STATE, uint32(states), []string{"invalid", "established", "related", "new", "", "", "untracked"}}
}

// CTStates is one or more states of a connection.
type CTStates uint32

// The states of a connection, with the bits of the kernel's
// include/uapi/linux/netfilter/nf_conntrack_common.h.
const (
	Invalid     CTStates = 1
	Established CTStates = 2
	Related     CTStates = 4
	New         CTStates = 8
	Untracked   CTStates = 64 // somebody kept conntrack from it
)

// CTStatus matches packets of connections to which any of the statuses apply.
func CTStatus(statuses CTStatuses) Expr {
	return ctBits{"status", unix.NFT_CT_STATUS, uint32(statuses),
		[]string{"expected", "seen-reply", "assured", "confirmed", "snat", "dnat"}}
}

// CTStatuses is one or more things that happened to a connection.
type CTStatuses uint32

// The statuses of a connection in use, from the same file (enum ip_conntrack_status).
const (
	SourceNATed      CTStatuses = 1 << 4 // its source is rewritten
	DestinationNATed CTStatuses = 1 << 5 // its destination is rewritten
)

// ctBits matches when any of the bits is set.
type ctBits struct {
	word  string
	key   uint32
	bits  uint32
	names []string // of the bits, from the lowest
}

func (e ctBits) text() string {
	var names []string
	for i, name := range e.names {
		if e.bits&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return "ct " + e.word + " " + strings.Join(names, ",")
}

func (e ctBits) code() []instruction {
	return []instruction{ct(e.key), bitmask(host32(e.bits)), compare(unix.NFT_CMP_NEQ, host32(0))}
}

// CTDirection matches packets that go as the first packet of their connection
// did, or against it.
func CTDirection(d Direction) Expr { return ctDirection{d} }

// Direction is a direction of a connection, numbered as in the kernel's
// include/uapi/linux/netfilter/nf_conntrack_tuple_common.h.
type Direction byte

// The directions of a connection.
const (
	Original Direction = 0
	Reply    Direction = 1
)

type ctDirection struct{ direction Direction }

func (e ctDirection) text() string {
	return "ct direction " + map[Direction]string{Original: "original", Reply: "reply"}[e.direction]
}

func (e ctDirection) code() []instruction {
	return []instruction{ct(unix.NFT_CT_DIRECTION), cmp([]byte{byte(e.direction)})}
}
