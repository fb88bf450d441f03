package egress

import "fairlead.dev/fairlead/internal/world"

// The mark of a connection says what becomes of it, from its first packet on:
//
//	bit 31     it is translated on this node
//	bit 30     what it sends goes through the tunnel, and is translated elsewhere
//	bits 14–29 the node at the other end of the tunnel, by its [Index]; 0: none
//	bits 0–13  the number of its source address; 0: there is none, and it is refused
//
// Where the mark is, so is the connection: it keeps its way whatever becomes of the Egress.
// In the tunnel the number is all that is left of it (group-based policy of VXLAN).
const (
	markHere   = 1 << 31
	markAway   = 1 << 30
	markOurs   = markHere | markAway
	nodeShift  = 14
	markNode   = 0xffff << nodeShift
	markNumber = 1<<nodeShift - 1
	wholeMark  = 1<<32 - 1
)

// refusedMark is of a connection that no address is at work for.
const refusedMark = markHere

// markOf is the mark of a connection from one of this node's pods that gets the address a.
func (ix *Indices) markOf(w *world.World, a world.EgressAddress) (mark uint32, ok bool) {
	if a.Number == 0 || a.Node == "" {
		return 0, false
	}
	if a.Node == w.Node.Name {
		return markHere | uint32(a.Number), true
	}
	index, known := ix.of(a.Node)
	return markAway | uint32(index)<<nodeShift | uint32(a.Number), known
}
