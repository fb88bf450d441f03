package world

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
)

// An End is an address of this node that carries the overlay, and the interface
// that has it. Where none has, the interface is without a name.
type End struct {
	Address   netip.Addr
	Interface Interface
}

// Ends returns this node's ends of the overlay, at most one of each family, that
// of the tunnel first: addresses of the interface that is chosen, and where
// nothing chosen is of a family, the node's own first address of it.
func (w *World) Ends() []End {
	ends := w.ChosenEnds()
	for _, a := range w.Node.Addresses {
		if !slices.ContainsFunc(ends, func(e End) bool { return e.Address.Is4() == a.Is4() }) {
			i, _ := w.Kernel.Holding(a)
			ends = append(ends, End{a, i})
		}
	}
	return ends
}

// ReportedEnds returns what peers must be told, since it does not follow from
// the Node: the ends, where some are chosen.
func (w *World) ReportedEnds() []End {
	if len(w.ChosenEnds()) == 0 {
		return nil
	}
	return w.Ends()
}

// ChosenEnds returns the ends on the first interface, by name, that the
// configuration chooses and that has an address for it; none where nothing is
// chosen, or nothing there is.
func (w *World) ChosenEnds() []End {
	choice := w.Config.Overlay.Interface
	if choice == (InterfaceChoice{}) {
		return nil
	}
	for _, i := range w.Kernel.Interfaces {
		if ends := w.endsOn(i); len(ends) > 0 && choice.takes(ends[0]) {
			return ends
		}
	}
	return nil
}

// takes reports whether the choice is the end's interface. The name was checked
// to be a pattern when it was read.
func (c InterfaceChoice) takes(e End) bool {
	if c.CIDR.IsValid() {
		return c.CIDR.Contains(e.Address)
	}
	matches, _ := path.Match(c.Pattern, e.Interface.Name)
	return matches
}

// endsOn returns what i could give: the best address of each family, and first
// that of the CIDR chosen, or of the family of the node's first address.
func (w *World) endsOn(i Interface) []End {
	chosen := w.Config.Overlay.Interface.CIDR
	like := chosen.Addr()
	if !chosen.IsValid() && len(w.Node.Addresses) > 0 {
		like = w.Node.Addresses[0]
	}
	var candidates []netip.Addr
	for _, p := range i.Addresses {
		if a := p.Addr(); a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast() {
			continue // without an interface beside it, such an address is no peer's
		}
		candidates = append(candidates, p.Addr())
	}
	slices.SortStableFunc(candidates, func(a, b netip.Addr) int {
		return cmp.Or(
			first(chosen.Contains(a), chosen.Contains(b)),
			first(a.Is4() == like.Is4(), b.Is4() == like.Is4()),
			first(slices.Contains(w.Node.Addresses, a), slices.Contains(w.Node.Addresses, b)),
			first(!a.IsLinkLocalUnicast(), !b.IsLinkLocalUnicast()),
			cmp.Compare(slices.Index(i.Fleeting, a), slices.Index(i.Fleeting, b)), // -1: it stays
		)
	})
	var ends []End
	for _, a := range candidates {
		if !slices.ContainsFunc(ends, func(e End) bool { return e.Address.Is4() == a.Is4() }) {
			ends = append(ends, End{a, i})
		}
	}
	return ends
}

// first orders what is before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// PeerEnds returns the addresses of p that may carry the overlay, of the family
// of like, the likeliest first: the one that p reports, or else those that p has,
// those in the CIDR chosen first.
func (w *World) PeerEnds(p *Node, like netip.Addr) []netip.Addr {
	of := func(all []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return a.Is4() != like.Is4() })
	}
	if reported := of(p.Ends); len(reported) > 0 {
		return reported
	}
	out := of(p.Addresses)
	chosen := w.Config.Overlay.Interface.CIDR
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return first(chosen.Contains(a), chosen.Contains(b)) })
	return out
}

// Bytes that VXLAN adds to a pod's packet: the inner Ethernet header (14), VXLAN
// (8), UDP (8) and the outer IP header (20 or 40); RFC 7348 section 5.
const (
	vxlanOverhead4 = 50
	vxlanOverhead6 = 70
)

// standardMTU is assumed while nothing is known of the way to other nodes.
const standardMTU = 1500

// leastIPv6MTU is what every link that carries IPv6 must take (RFC 8200 section
// 5). Where the outer interface leaves less, wrapped packets are fragmented.
const leastIPv6MTU = 1280

// PodMTU is the largest packet of the pod network: as configured, or what the
// ways to other nodes leave.
func (w *World) PodMTU() int {
	if w.Config.Overlay.Mode == Direct {
		return w.atLeast(w.LeftMTU())
	}
	return w.TunnelMTU()
}

// TunnelMTU is that of the tunnel, which stands in direct mode too, for peers that
// still use it.
func (w *World) TunnelMTU() int { return w.atLeast(w.wrapped()) }

// atLeast is the MTU that is configured, or the one given, if IPv6 can live with
// it.
func (w *World) atLeast(mtu int) int {
	if w.Config.Overlay.MTU != 0 {
		return w.Config.Overlay.MTU
	}
	for _, p := range w.Node.PodCIDRs {
		if p.Addr().Is6() {
			return max(mtu, leastIPv6MTU)
		}
	}
	return mtu
}

// LeftMTU is what the ways to other nodes leave of a packet: all of it to one that
// is sent as it is, less to one that is wrapped.
func (w *World) LeftMTU() int {
	if w.Config.Overlay.Mode != Direct {
		return w.wrapped()
	}
	mtu := standardMTU
	for n, e := range w.Ends() {
		if n == 0 {
			mtu = w.outer(e)
		}
		mtu = min(mtu, w.outer(e))
	}
	return mtu
}

// wrapped is what is left to a packet in the tunnel.
func (w *World) wrapped() int {
	ends := w.Ends()
	if len(ends) == 0 {
		return standardMTU - vxlanOverhead4
	}
	return w.Underlay.held(w.outer(ends[0]) - overheadOf(ends[0].Address))
}

func overheadOf(outer netip.Addr) int {
	if outer.Is6() {
		return vxlanOverhead6
	}
	return vxlanOverhead4
}
