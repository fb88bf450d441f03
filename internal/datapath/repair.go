package datapath

import "slices"

// A Repair is a change that undoes what somebody else did.
type Repair struct {
	Kind Kind
	Text string // the change as commands
}

// Repairs returns those of the changes from what the kernel was found to hold to
// the state wanted that it needs although held was applied before: what is
// neither new in want nor gone from it, and yet not there.
func Repairs(have Kernel, held, want State) []Repair {
	wanted := Diff(have, want).repairs()
	if len(wanted) == 0 || len(held) == 0 {
		return nil
	}
	before := map[Repair]bool{}
	for _, r := range Diff(have, held).repairs() {
		before[r] = true
	}
	var out []Repair
	for _, r := range wanted {
		if before[r] {
			out = append(out, r)
		}
	}
	return out
}

func (c Changes) repairs() []Repair {
	var out []Repair
	for _, n := range slices.Concat(c.nft, c.late, c.ends) {
		for _, text := range n.Single() {
			out = append(out, Repair{KindRules, text})
		}
	}
	for _, s := range slices.Concat(c.first, c.steps) {
		out = append(out, Repair{s.kind, s.change.String()})
	}
	return out
}
