package world

import (
	"net/netip"
	"slices"
)

// Allocations are choices of earlier turns that must not change by themselves:
// who was given what. They are part of the world, so that rendering stays pure:
// what is rendered names today's allocations, which are on disk before the kernel
// holds them and are tomorrow's input. What was never given is picked before
// what was, and of that what was given back longest ago.
//
// There is a pointer for every kind of thing that is given out, nil where none
// ever was: a feature reads and returns its own kind only.
type Allocations struct {
	Blocks    *Blocks
	NodePorts *NodePorts
	Claims    *Claims
	Settings  *Settings
}

// With returns a with the kinds that b has in the place of its own; a itself if
// it has them already.
func (a *Allocations) With(b *Allocations) *Allocations {
	out := *a
	if b != nil && b.Blocks != nil {
		out.Blocks = b.Blocks
	}
	if b != nil && b.NodePorts != nil {
		out.NodePorts = b.NodePorts
	}
	if b != nil && b.Claims != nil {
		out.Claims = b.Claims
	}
	if b != nil && b.Settings != nil {
		out.Settings = b.Settings
	}
	if out == *a {
		return a
	}
	return &out
}

// Keeping returns what a says, with every kind that last has alike as last's own
// pointer.
func (a *Allocations) Keeping(last *Allocations) *Allocations {
	out := *a
	if a.Blocks != nil && last.Blocks != nil && a.Blocks.Equal(last.Blocks) {
		out.Blocks = last.Blocks
	}
	if a.NodePorts != nil && last.NodePorts != nil && a.NodePorts.Equal(last.NodePorts) {
		out.NodePorts = last.NodePorts
	}
	if a.Claims != nil && last.Claims != nil && a.Claims.Equal(last.Claims) {
		out.Claims = last.Claims
	}
	if a.Settings != nil && last.Settings != nil && a.Settings.Equal(last.Settings) {
		out.Settings = last.Settings
	}
	if out == *last {
		return last
	}
	return &out
}

// Blocks are the blocks of source ports that pods hold or gave back, sorted by
// number, which none shares with another.
type Blocks struct{ List []Block }

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
func (b *Blocks) Equal(c *Blocks) bool { return slices.EqualFunc(b.List, c.List, Block.Equal) }

// Equal reports whether b and c say the same.
func (b Block) Equal(c Block) bool {
	return b.Number == c.Number && b.Holder == c.Holder && b.Pod == c.Pod && b.Freed == c.Freed &&
		slices.Equal(b.Addresses, c.Addresses)
}

// Claims are the pod CIDRs of peers that others claim too: who had one keeps it,
// also where the agent starts anew. Sorted by CIDR; hardly ever are there any.
type Claims struct{ List []Claim }

// A Claim is the pod CIDR that a node says it has.
type Claim struct {
	Node string       `json:"node"`
	CIDR netip.Prefix `json:"cidr"`
}

// Equal reports whether c and d say the same.
func (c *Claims) Equal(d *Claims) bool { return slices.Equal(c.List, d.List) }
