package world

import (
	"net/netip"
	"slices"
)

// Outermost is ps in order, masked, without those that are inside others. It takes ps.
func Outermost(ps []netip.Prefix) (out []netip.Prefix) {
	for i := range ps {
		ps[i] = ps[i].Masked()
	}
	slices.SortFunc(ps, netip.Prefix.Compare)
	for _, p := range ps {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}
