package snat

import (
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/world"
)

// astray are connections of pods that leave the cluster with the pods' addresses.
func astray(w *world.World) func(*conntrack.Entry) bool {
	inside := networksOf(w.Inside())
	return func(e *conntrack.Entry) bool {
		from := e.Original.Source
		return e.Reply.Destination == from && !inside.hold(e.Original.Destination.Addr()) &&
			slices.ContainsFunc(w.Node.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(from.Addr()) })
	}
}

// networks are prefixes by their lengths, of which there are few.
type networks map[int]map[netip.Prefix]bool

func networksOf(ps []netip.Prefix) networks {
	out := networks{}
	for _, p := range ps {
		if out[p.Bits()] == nil {
			out[p.Bits()] = map[netip.Prefix]bool{}
		}
		out[p.Bits()][p.Masked()] = true
	}
	return out
}

func (n networks) hold(a netip.Addr) bool {
	for bits, of := range n {
		if p, err := a.Prefix(bits); err == nil && of[p] {
			return true
		}
	}
	return false
}
