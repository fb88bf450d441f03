// Package guard lets in by each link of ours only what can rightly come by it.
//
// By a pod's wire comes what bears the pod's own addresses, and of its link-local
// address all but what routers say. Through the tunnel comes what pods and nodes
// of other nodes send, and what the operator lists as reached without translation,
// whose answers may enter the cluster by any node. The tunnel itself is fed by
// peers only: see tunnel.go. Nothing that comes by a link of ours is for the node's
// loopback, which route_localnet would open (CVE-2020-8558).
//
// Where the kernel runs programs at a link's entrance (tcx, Linux 6.6) they do it:
// only what comes by a link of ours meets one. Elsewhere rules in prerouting do the
// same, at raw priority, where every packet enters: see rules.go. What is refused
// leaves no trace in conntrack, and is counted for each wire.
package guard

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the guard of wires and of the tunnel.
var Feature = feature.Feature{
	Name:       "guard",
	PodNetwork: true,
	Render:     func() feature.Render { return feature.Memo(readsOf, new(renderer).render) },
	Checks:     []doctor.Check{refusedPackets},
}

// reads is all that render looks at.
type reads struct {
	attachments *world.Attachments
	programs    world.Capability
	tunnel      madeOf
}

func readsOf(w *world.World) reads {
	return reads{w.Attachments, w.Kernel.Capabilities.TCX, tunnelOf(w)}
}

// loopback4 is where the node talks to itself (RFC 1122 section 3.2.1.3). No route
// leads to ::1 from elsewhere, whatever the settings.
var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

// A renderer remembers what the cluster's nodes come to.
type renderer struct{ nodes feature.Last[madeOf, *made] }

func (r *renderer) render(w *world.World) feature.Result {
	t := &nft.Table{Name: datapath.GuardTable, Sets: []*nft.Set{{Name: wires, Type: nft.IfName, Counted: true, Elements: wireNames(w)}}}
	out := feature.Result{Part: datapath.Part{Tables: []*nft.Table{t}}}
	var nodes *made // nil: there is no tunnel
	tunnel := tunnelOf(w)
	if tunnel.port != 0 {
		nodes = r.nodes.Of(tunnel, func() *made { return ofNodes(w) })
	}
	if w.Kernel.Capabilities.TCX.OK {
		out.Part.Gates = gates(w, nodes)
	} else {
		addRules(t, w, nodes)
	}
	if nodes != nil {
		addTunnel(t, w, nodes, tunnel.port)
	}
	return out
}

// gates are what programs let in by each link of ours.
func gates(w *world.World, nodes *made) []gate.Gate {
	var out []gate.Gate
	for _, a := range w.Attachments.List {
		if a.Chained {
			continue
		}
		g := gate.Gate{Link: feature.Wire(a), Neighbour: linkLocal(a)}
		for _, addr := range a.Addresses {
			g.Sources = append(g.Sources, netip.PrefixFrom(addr, addr.BitLen()))
		}
		out = append(out, g)
	}
	if nodes != nil {
		out = append(out, gate.Gate{Link: datapath.VXLANLink, Priority: datapath.TunnelPriority, Set: true, Sources: nodes.speakers})
	}
	return out
}

// refused is the end of what comes to the named chain, which counts it.
func refused(name string) *nft.Chain {
	return &nft.Chain{Name: name, Rules: []nft.Rule{{nft.In(nft.IPv4, wires, nft.FieldIIF), nft.Counter(), nft.Drop()}, {nft.Counter(), nft.Drop()}}}
}

// wires is the set of pods' wires, with what rules refused each.
const wires = "wires"

// wireNames are the wires of this node's pods. A pod that seems to be gone is among
// them for as long as its address is taken: its wire may be there.
func wireNames(w *world.World) nft.Elements {
	var names []nft.Element
	for _, a := range w.Attachments.List {
		if !a.Chained {
			names = append(names, nft.Element{Key: nft.Link(feature.Wire(a))})
		}
	}
	return nft.Sorted(names)
}

// linkLocal is the link-local address of a pod, which follows from its hardware
// address; the zero address where nobody knows that.
func linkLocal(a *world.Attachment) netip.Addr {
	mac := a.MAC
	if a.Wire == "" {
		mac = feature.PodMAC(a.ContainerID, a.Interface)
	}
	if mac == (world.MAC{}) {
		return netip.Addr{}
	}
	return mac.LinkLocal()
}

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}
