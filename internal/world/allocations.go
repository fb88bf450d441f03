package world

import "slices"

// Allocations are choices of earlier turns that must not change by themselves:
// who was given what. They are part of the world, so that rendering stays pure:
// what is rendered names today's allocations, which are on disk before the kernel
// holds them and are tomorrow's input. What was never given is picked before
// what was, and of that what was given back longest ago.
type Allocations struct {
	Blocks []Block // of source ports, by number
}

// A Block is a pod's block of source ports: the Number-th of Size ports, counted
// from the beginning of the SNAT range.
type Block struct {
	Number int    `json:"number"`
	Holder string `json:"holder"` // key of the attachment that has it, or had it last
	Pod    string `json:"pod"`    // NAMESPACE/NAME, for people
	// Freed is 0 while the holder has the block, and otherwise grows with every
	// block given back: the smallest was given back first.
	Freed int64 `json:"freed,omitempty"`
}

// Equal reports whether a and b say the same.
func (a *Allocations) Equal(b *Allocations) bool { return slices.Equal(a.Blocks, b.Blocks) }
