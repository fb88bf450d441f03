// Package guard lets in by each link of ours only what can rightly come by it.
//
// By a pod's wire comes what bears the pod's own addresses, and of its link-local
// address all but what routers say. Through the tunnel comes what pods and nodes
// of other nodes send, and what the operator lists as reached without translation,
// whose answers may enter the cluster by any node. The tunnel itself is fed by
// peers only: see tunnel.go. Nothing that comes by a link of ours is for the node's
// loopback, which route_localnet would open (CVE-2020-8558).
//
// It stands in prerouting at raw priority, before conntrack: what is refused leaves
// no trace there. A packet of any other link costs one comparison. A pod is an
// element of sets, never a rule; the set of wires counts what each is refused.
package guard

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the guard of wires and of the tunnel.
var Feature = feature.Feature{
	Name:   "guard",
	Render: render,
	Reads: func(w *world.World) any {
		return struct {
			attachments *world.Attachments
			tunnel      madeOf
		}{w.Attachments, tunnelOf(w)}
	},
	Checks: []doctor.Check{refusedPackets},
}

// loopback4 is where the node talks to itself (RFC 1122 section 3.2.1.3). No route
// leads to ::1 from elsewhere, whatever the settings.
var loopback4 = netip.MustParsePrefix("127.0.0.0/8")

func render(w *world.World) feature.Result {
	t := &nft.Table{Name: datapath.GuardTable, Sets: wireSets(w)}
	t.Chains = append(t.Chains,
		&nft.Chain{Name: "prerouting", Type: nft.Filter, Hook: nft.Prerouting, Priority: datapath.GuardPriority,
			Rules: []nft.Rule{{nft.IIFName(datapath.LinkPrefix + "*"), nft.Goto("ours")}}},
		&nft.Chain{Name: "ours", Rules: fromOurs(tunnelOf(w))},
		&nft.Chain{Name: "neighbours", Rules: fromNeighbours()},
		refused("loopback"), refused("forged"))
	if port := tunnelOf(w).port; port != 0 {
		t.Sets = append(t.Sets, tunnelSets(w)...)
		t.Chains = append(t.Chains, tunnelChains(port)...)
	}
	return feature.Result{Part: datapath.Part{Tables: []*nft.Table{t}}}
}

// refused is the end of what comes to the named chain, which counts it.
func refused(name string) *nft.Chain {
	return &nft.Chain{Name: name, Rules: []nft.Rule{{nft.In(nft.IPv4, wires, nft.FieldIIF), nft.Counter(), nft.Drop()}, {nft.Counter(), nft.Drop()}}}
}

// Names of sets.
const wires = "wires" // of pods, with what each was refused

func pods(f nft.Family) string { return fmt.Sprintf("pods%d", f) } // wire and address of each
const links = "links6"         // wire and link-local address of each

// wireSets are the sets of this node's pods. A pod that seems to be gone stays
// in them for as long as its address is taken: its wire may be there.
func wireSets(w *world.World) []*nft.Set {
	var names, local []nft.Element
	own := map[nft.Family][]nft.Element{}
	for _, a := range w.Attachments.List {
		if a.Chained {
			continue
		}
		link := nft.Link(feature.Wire(a))
		names = append(names, nft.Element{Key: link})
		mac := a.MAC
		if a.Wire == "" {
			mac = feature.PodMAC(a.ContainerID, a.Interface)
		}
		if mac != (world.MAC{}) { // else nobody knows it
			local = append(local, nft.Element{Key: nft.Tuple(link, nft.Addr(mac.LinkLocal()))})
		}
		for _, addr := range a.Addresses {
			f := familyOf(addr)
			own[f] = append(own[f], nft.Element{Key: nft.Tuple(link, nft.Addr(addr))})
		}
	}
	out := []*nft.Set{{Name: wires, Type: nft.IfName, Counted: true, Elements: nft.Sorted(names)}}
	for _, f := range nft.Families {
		out = append(out, &nft.Set{Name: pods(f), Type: nft.Concat(nft.IfName, f.AddrType()), Elements: nft.Sorted(own[f])})
	}
	return append(out, &nft.Set{Name: links, Type: nft.Concat(nft.IfName, nft.IPv6Addr), Elements: nft.Sorted(local)})
}

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}

// fromOurs is what comes in by a link of ours.
func fromOurs(tunnel madeOf) []nft.Rule {
	var out []nft.Rule
	if tunnel.port != 0 {
		out = append(out, nft.Rule{nft.IIFName(datapath.VXLANLink), nft.Goto("tunnel")})
	}
	for _, f := range nft.Families {
		own := nft.Rule{nft.In(f, pods(f), nft.FieldIIF, nft.FieldSaddr)}
		out = append(out, append(own, passes(f)...))
	}
	out = append(out, nft.Rule{nft.Daddr(loopback4), nft.Goto("loopback")})
	return append(out, nft.Rule{nft.IsFamily(nft.IPv6), nft.Goto("neighbours")}, nft.Rule{nft.Goto("forged")})
}

// passes accepts what is not for the node's loopback.
func passes(f nft.Family) nft.Rule {
	if f == nft.IPv4 {
		return nft.Rule{nft.Not(nft.Daddr(loopback4)), nft.Accept()}
	}
	return nft.Rule{nft.Accept()}
}

// unspecified is what an interface sends from that has no address yet.
var unspecified = netip.MustParsePrefix("::/128")

// fromNeighbours is what neighbour discovery and multicast need besides the pod's
// addresses. The pod is no router (RFC 4861 sections 6.1.2 and 8.1 want these from
// link-local addresses).
func fromNeighbours() []nft.Rule {
	return []nft.Rule{
		{nft.ICMPv6(nft.RouterAdvert), nft.Goto("forged")},
		{nft.ICMPv6(nft.Redirect), nft.Goto("forged")},
		{nft.In(nft.IPv6, links, nft.FieldIIF, nft.FieldSaddr), nft.Accept()},
		{nft.Saddr(unspecified), nft.ICMPv6(nft.NeighbourSolicit), nft.Accept()},
		{nft.Saddr(unspecified), nft.ICMPv6(nft.MulticastReport), nft.Accept()},
		{nft.Saddr(unspecified), nft.ICMPv6(nft.MulticastReportTwo), nft.Accept()},
		{nft.Goto("forged")},
	}
}
