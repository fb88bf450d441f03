package guard

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Rules do what gates do where the kernel runs no programs. A packet of another link
// costs one comparison. A pod is an element of sets, never a rule.

// Names of sets.
func pods(f nft.Family) string   { return fmt.Sprintf("pods%d", f) }   // wire and address of each
func inside(f nft.Family) string { return fmt.Sprintf("inside%d", f) } // who may speak through the tunnel

const links = "links6" // wire and link-local address of each

// addRules adds to the table what is for packets that come by links of ours.
func addRules(t *nft.Table, w *world.World, nodes *made) {
	t.Sets = append(t.Sets, podSets(w)...)
	ours := &nft.Chain{Name: "ours", Rules: fromOurs(nodes != nil)}
	t.Chains = append(t.Chains, ours, &nft.Chain{Name: "neighbours", Rules: fromNeighbours()}, refused("loopback"), refused("forged"))
	arriving(t).Rules = append(arriving(t).Rules, nft.Rule{nft.IIFName(datapath.LinkPrefix + "*"), nft.Goto(ours.Name)})
	if nodes == nil {
		return
	}
	for _, f := range nft.Families {
		t.Sets = append(t.Sets, &nft.Set{Name: inside(f), Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(ofFamily(f, nodes.speakers))})
	}
	t.Chains = append(t.Chains, fromTunnel()...)
}

func podSets(w *world.World) []*nft.Set {
	var local []nft.Element
	own := map[nft.Family][]nft.Element{}
	for _, a := range w.Attachments.List {
		if a.Chained {
			continue
		}
		link := nft.Link(feature.Wire(a))
		if l := linkLocal(a); l.IsValid() {
			local = append(local, nft.Element{Key: nft.Tuple(link, nft.Addr(l))})
		}
		for _, addr := range a.Addresses {
			f := familyOf(addr)
			own[f] = append(own[f], nft.Element{Key: nft.Tuple(link, nft.Addr(addr))})
		}
	}
	var out []*nft.Set
	for _, f := range nft.Families {
		out = append(out, &nft.Set{Name: pods(f), Type: nft.Concat(nft.IfName, f.AddrType()), Elements: nft.Sorted(own[f])})
	}
	return append(out, &nft.Set{Name: links, Type: nft.Concat(nft.IfName, nft.IPv6Addr), Elements: nft.Sorted(local)})
}

// fromOurs is what comes in by a link of ours.
func fromOurs(tunnel bool) []nft.Rule {
	var out []nft.Rule
	if tunnel {
		out = append(out, nft.Rule{nft.IIFName(datapath.VXLANLink), nft.Goto("tunnel")})
	}
	for _, f := range nft.Families {
		own := nft.In(f, pods(f), nft.FieldIIF, nft.FieldSaddr)
		out = append(out, unlessLoopback(f, own, nft.Accept()))
	}
	out = append(out, nft.Rule{nft.Daddr(loopback4), nft.Goto("loopback")},
		nft.Rule{nft.IIFName(datapath.EgressLink), nft.Accept()}) // who sends there is judged where it arrives: package egress
	return append(out, nft.Rule{nft.IsFamily(nft.IPv6), nft.Goto("neighbours")}, nft.Rule{nft.Goto("forged")})
}

// unlessLoopback is a rule for what match takes and is not for the node's loopback.
func unlessLoopback(f nft.Family, match nft.Expr, then ...nft.Expr) nft.Rule {
	out := nft.Rule{match}
	if f == nft.IPv4 {
		out = append(out, nft.Not(nft.Daddr(loopback4)))
	}
	return append(out, then...)
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

// fromTunnel is what comes through the tunnel.
func fromTunnel() []*nft.Chain {
	tunnel := &nft.Chain{Name: "tunnel", Rules: []nft.Rule{{nft.Not(nft.Priority(datapath.TunnelPriority)), nft.Goto("injected")}}}
	for _, f := range nft.Families {
		tunnel.Rules = append(tunnel.Rules, unlessLoopback(f, nft.SaddrIn(f, inside(f)), nft.SetPriority(0), nft.Accept()))
	}
	tunnel.Rules = append(tunnel.Rules, nft.Rule{nft.Daddr(loopback4), nft.Goto("loopback")}, nft.Rule{nft.Goto("foreign")})
	return []*nft.Chain{tunnel, {Name: "foreign", Rules: []nft.Rule{{nft.Counter(), nft.Drop()}}}}
}
