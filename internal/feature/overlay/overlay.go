// Package overlay carries packets between the pods of different nodes.
//
// In a tunnel, a packet for a pod of another node is routed to a VXLAN device,
// which wraps it in UDP and sends it to that node. All a node needs to know of a
// peer is in its Node object: the hardware address of a peer's device follows
// from the peer's name. For each peer there is a forwarding entry, and for each
// family a neighbour and a route, all permanent: nothing is learned from the
// wire, and no packet waits for discovery.
//
// Nodes' own addresses are no part of the pod network, and the tunnel's packets go to
// them: see nodes.go.
//
// Directly, a packet is routed to the address of that node, on a network that
// both share, and there is nothing but a route for each family. The device
// stands in every mode: a node understands peers that have not changed their mode
// yet, so that modes can change node by node while traffic flows.
package overlay

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the overlay between nodes.
var Feature = feature.Feature{
	Name:       "overlay",
	PodNetwork: true,
	Render:     func() feature.Render { return feature.Memo(readsOf, render) },
	Checks:     []doctor.Check{fullSizePackets, reversePath, sourceCheck},
	Start:      start,
}

// reads is all that render looks at.
type reads struct {
	node         *world.Node
	peers        *world.Peers
	overlay      world.Overlay
	noOffload    bool
	ends, chosen string
	relied       string
	mtus         [3]int
	podsPass     bool
	strict       bool
}

func readsOf(w *world.World) reads {
	return reads{w.Node, w.Peers, w.Config.Overlay, w.Config.DisableTXChecksumOffload, fmt.Sprint(w.Ends()), fmt.Sprint(w.ChosenEnds()), fmt.Sprint(relied(w)),
		[3]int{w.TunnelMTU(), w.PodMTU(), w.LeftMTU()}, w.PodsPass(), w.Kernel.Strict}
}

func render(w *world.World) feature.Result {
	r := renderer{world: w, ends: w.Ends(), claims: claimsOf(w)}
	r.Problems = problems(w, r.ends)
	if len(r.ends) == 0 {
		return r.Result
	}
	device := &link.Link{
		Name: datapath.VXLANLink, MTU: w.TunnelMTU(), MAC: w.Node.MAC,
		VXLAN:               &link.VXLAN{VNI: w.Config.Overlay.VNI, Port: w.Config.Overlay.Port, Local: r.ends[0].Address},
		NoTXChecksumOffload: w.Config.DisableTXChecksumOffload,
	}
	for _, g := range w.Node.Gateways() {
		device.Addresses = append(device.Addresses, netip.PrefixFrom(g, g.BitLen()))
	}
	r.Part.Links = append(r.Part.Links, device)
	r.Part.Settings = append(r.Part.Settings, sysctl.Setting{Key: datapath.ReversePathFilter(datapath.VXLANLink), Value: reversePathOf(w.Kernel)})
	for _, p := range w.Peers.Nodes {
		r.peer(p)
		r.compare(p)
	}
	r.Part.Rules = toNodes(w, r.Part.Routes)
	r.Problems = append(r.Problems, r.differs.problems(w.Node.Name)...)
	return r.Result
}

// reversePathOf is how the tunnel filters by the way back. Peers may send through it what
// is answered directly, so it must not be strict, as all interfaces are on some nodes. To
// be loose costs a lookup of a route for each packet, and asks for no more than that there
// is one.
func reversePathOf(k *world.Kernel) string {
	if k.Strict {
		return datapath.LooseReversePath
	}
	return datapath.NoReversePath
}

// A renderer adds up what leads to the peers.
type renderer struct {
	feature.Result
	world   *world.World
	ends    []world.End
	claims  map[netip.Addr]int
	differs differences
}

// peer adds what leads to the pods of p: of each family directly or through the
// tunnel, as the mode says and the networks allow.
func (r *renderer) peer(p *world.Node) {
	var wrapped []netip.Prefix
	for _, cidr := range p.PodCIDRs {
		if !hasFamily(r.world.Node.PodCIDRs, cidr.Addr()) {
			continue
		}
		via, link := r.nextHop(p, cidr.Addr())
		switch {
		case via.IsValid():
			r.Part.Routes = append(r.Part.Routes, route.Route{Dst: cidr, Via: via, Link: link})
		case r.world.Config.Overlay.Mode == world.Direct:
			r.Problems = append(r.Problems, r.unreachable(p, cidr)...)
		default:
			wrapped = append(wrapped, cidr)
		}
	}
	if len(wrapped) > 0 {
		r.tunnel(p, wrapped)
	}
}

// nextHop returns the address of p on a network that both nodes share, and this
// node's link to it, in the family of like; neither where there is none, or where
// everything is to be wrapped.
func (r *renderer) nextHop(p *world.Node, like netip.Addr) (netip.Addr, string) {
	if r.world.Config.Overlay.Mode == world.VXLAN {
		return netip.Addr{}, ""
	}
	return r.shared(p, like)
}

// own reports whether a is one of this node's addresses, whoever else claims it.
func (r *renderer) own(a netip.Addr) bool {
	return slices.Contains(r.world.Node.Addresses, a) || slices.ContainsFunc(r.ends, func(e world.End) bool {
		return e.Address == a || slices.ContainsFunc(e.Interface.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

// tunnel adds what leads to pod CIDRs of p through the tunnel.
func (r *renderer) tunnel(p *world.Node, cidrs []netip.Prefix) {
	to, problems := r.farEnd(p)
	r.Problems = append(r.Problems, problems...)
	mac := p.MAC
	if !to.IsValid() || mac == (world.MAC{}) { // told where the nodes are read
		return
	}
	r.Part.Neighbours = append(r.Part.Neighbours, neigh.Neighbour{Link: datapath.VXLANLink, Addr: to, MAC: mac, Forward: true})
	for _, cidr := range cidrs {
		via := inside(cidr, mac)
		r.Part.Neighbours = append(r.Part.Neighbours, neigh.Neighbour{Link: datapath.VXLANLink, Addr: via, MAC: mac})
		r.Part.Routes = append(r.Part.Routes, route.Route{Dst: cidr, Via: via, Link: datapath.VXLANLink, OnLink: true})
		r.node(p, cidr.Addr())
	}
}

// inside is the next hop inside the tunnel for a peer's pod CIDR. In IPv6 it is
// none of that CIDR: the kernel refuses one to which another route leads, such as
// a direct one that is to be replaced (Linux net/ipv6/route.c,
// ip6_route_check_nh_onlink).
func inside(cidr netip.Prefix, peer world.MAC) netip.Addr {
	if cidr.Addr().Is6() {
		return peer.LinkLocal()
	}
	return world.Gateway(cidr)
}

func hasFamily(ps []netip.Prefix, like netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Addr().Is4() == like.Is4() })
}

// endOf returns the end of the family of like.
func endOf(ends []world.End, like netip.Addr) (world.End, bool) {
	i := slices.IndexFunc(ends, func(e world.End) bool { return e.Address.Is4() == like.Is4() })
	if i < 0 {
		return world.End{}, false
	}
	return ends[i], true
}

// usable returns the end of the family of like, if its interface takes routes.
func usable(ends []world.End, like netip.Addr) (world.End, bool) {
	e, ok := endOf(ends, like)
	return e, ok && e.Interface.Name != "" && !e.Interface.Down
}
