package snat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// Allocated are the blocks, in the world.
const Allocated = world.Own[BlockList]("Blocks")

// A BlockList is the blocks of source ports that pods hold or gave back, sorted by
// number, which none shares with another.
type BlockList struct{ List []Block }

// A Block is a pod's block of source ports: the Number-th of equally many ports,
// counted from the beginning of the SNAT range.
type Block struct {
	Number    int          `json:"number"`
	Holder    string       `json:"holder"` // key of the attachment that has it, or had it last
	Pod       string       `json:"pod"`    // NAMESPACE/NAME, for people
	Addresses []netip.Addr `json:"addresses"`
	// Freed is 0 while the holder has the block, and otherwise grows with every
	// block given back: the smallest was given back first.
	Freed int64 `json:"freed,omitempty"`
}

// Equal reports whether b and c say the same.
func (b *BlockList) Equal(c *BlockList) bool { return slices.EqualFunc(b.List, c.List, Block.Equal) }

// Equal reports whether b and c say the same.
func (b Block) Equal(c Block) bool {
	return b.Number == c.Number && b.Holder == c.Holder && b.Pod == c.Pod && b.Freed == c.Freed &&
		slices.Equal(b.Addresses, c.Addresses)
}

// Blocks is the number of blocks in the range; 0 where all pods share it.
func (p Ports) Blocks() int {
	if p.Block == 0 {
		return 0
	}
	return p.Range.Len() / p.Block
}

// Numbered is the ports of a block.
func (p Ports) Numbered(block int) world.PortRange {
	low := int(p.Range.Low) + block*p.Block
	return world.PortRange{Low: uint16(low), High: uint16(low + p.Block - 1)}
}

// Shared is the ports of whoever has no block: the last one, and what is left of
// the range behind it. The last one's holder has it alone only while nobody is
// without.
func (p Ports) Shared() world.PortRange {
	return world.PortRange{Low: p.Numbered(p.Blocks() - 1).Low, High: p.Range.High}
}

// Allotted says which pods have a block.
type Allotted struct {
	Blocks  *BlockList
	Sharing []*world.Attachment // those for whom none was left
}

// Allot gives every pod of w a block, as far as there are blocks. Where all pods
// share the range it is empty.
func Allot(w *world.World) Allotted {
	p := InForce(w)
	if p.Block == 0 {
		return Allotted{}
	}
	return allot(p.Blocks(), w.Attachments.List, Allocated.Of(w.Allocations))
}

// allot is Allot for blocks 0 to count-1. Who has one keeps it; a number that
// there is no more is taken back. Once given back, the result is itself.
func allot(count int, pods []*world.Attachment, last *BlockList) Allotted {
	if last == nil {
		last = &BlockList{}
	}
	without := make(map[string]*world.Attachment, len(pods))
	for _, a := range pods {
		without[a.Key()] = a
	}
	blocks := make(map[int]Block, len(last.List))
	var freed int64
	for _, b := range last.List {
		freed = max(freed, b.Freed)
	}
	for _, b := range last.List {
		if _, twice := blocks[b.Number]; twice || b.Number < 0 || b.Number >= count {
			continue
		}
		if b.Freed == 0 {
			if a := without[b.Holder]; a != nil {
				b = held(b.Number, a)
				delete(without, b.Holder)
			} else {
				freed++
				b.Freed = freed
			}
		}
		blocks[b.Number] = b
	}
	out := give(count, pods, blocks, without)
	if out.Blocks.Equal(last) {
		out.Blocks = last
	}
	return out
}

func held(number int, a *world.Attachment) Block {
	return Block{Number: number, Holder: a.Key(), Pod: a.Namespace + "/" + a.Pod, Addresses: a.Addresses}
}

// had reports whether a block is or was somebody's.
func had(blocks map[int]Block, number int) bool {
	_, is := blocks[number]
	return is
}

// give gives a block to each of the pods that are without, in their order: one
// that nobody ever had, or else the one given back longest ago.
func give(count int, pods []*world.Attachment, blocks map[int]Block, without map[string]*world.Attachment) Allotted {
	var again []Block
	for _, b := range blocks {
		if b.Freed != 0 {
			again = append(again, b)
		}
	}
	slices.SortFunc(again, func(a, b Block) int {
		return cmp.Or(cmp.Compare(a.Freed, b.Freed), cmp.Compare(a.Number, b.Number))
	})
	var out Allotted
	fresh := 0
	for _, a := range pods {
		if without[a.Key()] == nil {
			continue
		}
		for had(blocks, fresh) {
			fresh++
		}
		switch {
		case fresh < count:
			blocks[fresh] = held(fresh, a)
		case len(again) > 0:
			blocks[again[0].Number] = held(again[0].Number, a)
			again = again[1:]
		default:
			out.Sharing = append(out.Sharing, a)
		}
	}
	out.Blocks = &BlockList{}
	for _, b := range blocks {
		out.Blocks.List = append(out.Blocks.List, b)
	}
	slices.SortFunc(out.Blocks.List, func(a, b Block) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// Held is the number of blocks that pods have.
func (a Allotted) Held() (n int) {
	if a.Blocks == nil {
		return 0
	}
	for _, b := range a.Blocks.List {
		if b.Freed == 0 {
			n++
		}
	}
	return n
}

// Reasons of the report SNATPortBlocks.
const (
	reasonOwn     = "OwnBlocks"
	reasonShared  = "SharedBlock"
	reasonUnknown = "NoPodKnown"
)

// report tells the cluster whether every pod has ports to itself.
func (a Allotted) report(w *world.World) world.Report {
	p := InForce(w)
	r := world.Report{Object: "FairleadNode " + w.Node.Name, Type: "SNATPortBlocks"}
	switch {
	case noPodKnown(w):
		r.Reason = reasonUnknown
		r.Message = fmt.Sprintf("no pod is known by CNI chaining, so none has a block of source ports: all share %s", p)
	case len(a.Sharing) > 0:
		r.Reason = reasonShared
		r.Message = fmt.Sprintf("all %d blocks of %d source ports in %s are allocated: further pods share %s", p.Blocks(), p.Block, p, p.Shared())
	default:
		r.Status, r.Reason = true, reasonOwn
		r.Message = fmt.Sprintf("every pod has %d source ports to itself; %d blocks in %s", p.Block, p.Blocks(), p)
	}
	return r
}

// problems says how many pods have no ports to themselves.
func (a Allotted) problems(p Ports, node string) []world.Problem {
	if len(a.Sharing) == 0 {
		return nil
	}
	return []world.Problem{{
		Object: "Node " + node, Field: "nodeSNATPortBlock",
		Reason: fmt.Sprintf("%s without a block of source ports: all %d are allocated, and the last is shared, %s", podsAre(len(a.Sharing)), p.Blocks(), p.Shared()),
		Hint:   "write a smaller nodeSNATPortBlock, or a wider nodeSNATPortRange",
	}}
}

func podsAre(n int) string {
	if n == 1 {
		return "1 pod is"
	}
	return fmt.Sprintf("%d pods are", n)
}
