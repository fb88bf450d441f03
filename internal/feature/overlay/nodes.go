package overlay

import (
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/world"
)

// What pods send to the own address of a node that is reached by the tunnel goes
// through the tunnel, as its answers do: between the nodes there may be a network that
// lets pass only what has a node's address as its source. The main table cannot say
// so, since the tunnel's packets go to the same addresses. So these routes are in a
// table of ours, where only packets look that have an address of this node's pods, and
// keep it: an answer of a host port, which has a mark of package uplink, will have
// the address that was asked, which may be none that the tunnel takes. They look there
// only while it is not known that pods' addresses pass as they are, since one rule of
// routing costs every packet of the node (see ADR 45).

// node adds what leads to the address of p, of the family of like, towards which pods
// keep theirs. Routes without a next hop share one, which is the link: others of the
// kernel's would be compared with each other, one for each peer (see ADR 12).
func (r *renderer) node(p *world.Node, like netip.Addr) {
	ends := r.world.PeerEnds(p, like)
	if p.InForce.Mode == world.None || len(ends) == 0 {
		return
	}
	to := ends[0]
	if r.claims[to] > 1 || r.own(to) || slices.Contains(relied(r.world), to) {
		return
	}
	r.Part.Neighbours = append(r.Part.Neighbours, neigh.Neighbour{Link: datapath.VXLANLink, Addr: to, MAC: p.MAC})
	r.Part.Routes = append(r.Part.Routes, route.Route{Dst: netip.PrefixFrom(to, to.BitLen()), Link: datapath.VXLANLink, Table: datapath.NodesTable})
}

// claimsOf counts the peers that mean to be found at an address, on the underlay or in
// the tunnel. Nobody knows whose one is that several want: it is reached as before.
func claimsOf(w *world.World) map[netip.Addr]int {
	out := make(map[netip.Addr]int, 2*len(w.Peers.Nodes))
	for _, p := range w.Peers.Nodes {
		for _, cidr := range p.PodCIDRs {
			out[inside(cidr, p.MAC)]++
		}
		for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			if ends := w.PeerEnds(p, like); len(ends) > 0 {
				out[ends[0]]++
			}
		}
	}
	return out
}

// relied are whom this node asks itself. A peer that says it has such an address may
// have it, and gets none of what pods send there (see ADR 27).
func relied(w *world.World) []netip.Addr {
	out := slices.Clone(w.Kernel.Resolvers)
	for _, e := range w.Kernel.Exits {
		out = append(out, e.Gateway)
	}
	return out
}

// toNodes are the rules by which this node's pods find these routes. The tunnel's own
// packets must not: of a pod CIDR that holds an end of it there is no rule.
func toNodes(w *world.World, routes []route.Route) []route.Rule {
	if w.PodsPass() {
		return nil
	}
	var out []route.Rule
	for _, cidr := range w.Node.PodCIDRs {
		leads := slices.ContainsFunc(routes, func(r route.Route) bool {
			return r.Table == datapath.NodesTable && r.Dst.Addr().Is4() == cidr.Addr().Is4()
		})
		if leads && !slices.ContainsFunc(w.Ends(), func(e world.End) bool { return cidr.Contains(e.Address) }) {
			out = append(out, route.Rule{Priority: datapath.NodesPriority, From: cidr, Mask: datapath.UplinkMask, Table: datapath.NodesTable})
		}
	}
	return out
}
