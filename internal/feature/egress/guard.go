package egress

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/world"
)

// Nothing leaves with another address while somebody's flush has taken a half of this away.
// Without the rules of nftables nobody marks what pods send as seen, and what is not seen
// finds its way to the inside only. Without the rules of routing, what should go through the
// tunnel is dropped in forward.

// addGuard adds what keeps packets that the rules have not seen from leaving: those of this
// node's pods, and those that come out of the tunnel. IPv4's reverse path filter asks
// routes too, and knows marks where it is told to.
func addGuard(w *world.World, inside []netip.Prefix, p *datapath.Part) {
	for _, prefix := range inside {
		p.Routes = append(p.Routes, route.Route{Dst: prefix, Throw: true, Table: datapath.EgressGuardTable})
	}
	unseen := route.Rule{Priority: datapath.EgressGuardPriority, Mask: datapath.EgressSeenMark, Table: datapath.EgressGuardTable}
	for _, f := range nft.Families {
		p.Routes = append(p.Routes, route.Route{Dst: all[f], Table: datapath.EgressGuardTable})
		fromTunnel := unseen
		fromTunnel.From, fromTunnel.In = all[f], datapath.EgressLink
		p.Rules = append(p.Rules, fromTunnel,
			route.Rule{Priority: datapath.EgressPassedPriority, From: all[f], Nop: true},
			route.Rule{Priority: datapath.EgressPassPriority, From: all[f], In: "lo", Goto: datapath.EgressPassedPriority},
			route.Rule{Priority: datapath.EgressArrivedPriority, From: all[f], In: datapath.EgressLink, Goto: datapath.EgressGuardPriority})
		for _, cidr := range ofFamily(f, w.Node.PodCIDRs) {
			fromPods := unseen
			fromPods.From = cidr
			p.Rules = append(p.Rules, fromPods)
		}
	}
	set(p, "net/ipv4/conf/all/src_valid_mark", "1")
}

// forward is what becomes of packets whose way is chosen.
func forward() []*nft.Chain {
	const bits = datapath.EgressSteerMark | datapath.EgressSeenMark
	chosen := &nft.Chain{Name: "forward", Type: nft.Filter, Hook: nft.Forward, Priority: datapath.EgressForwardPriority, Rules: []nft.Rule{
		{nft.Not(nft.Mark(bits, 0)), nft.MarkAs(bits, 0)},
		{nft.Not(nft.CTMark(markOurs, 0)), nft.Goto("chosen")},
	}}
	for _, f := range nft.Families {
		// A peer that translates it would seem to have sent it.
		chosen.Rules = append(chosen.Rules, nft.Rule{nft.IIFName(datapath.LinkPrefix + "*"), nft.L4Proto(unix.IPPROTO_UDP),
			nft.Dport(datapath.EgressPort, datapath.EgressPort), nft.DaddrIn(f, insideSet(f)), nft.Goto("injected")})
	}
	return []*nft.Chain{chosen, {Name: "chosen", Rules: []nft.Rule{
		{nft.CTMark(wholeMark, refusedMark), nft.RejectProhibited()},
		{nft.CTDirection(nft.Original), nft.CTMark(markAway, markAway), nft.Not(nft.OIFName(datapath.EgressLink)), nft.Counter(), nft.Drop()},
	}}, {Name: "injected", Rules: []nft.Rule{{nft.Counter(), nft.Drop()}}}}
}

// input lets peers only into the tunnel: at an address by which they know this node, and
// nothing that was led there by a translation.
func input(fars []far) ([]*nft.Set, []*nft.Chain) {
	c := &nft.Chain{Name: "input", Type: nft.Filter, Hook: nft.Input, Priority: datapath.EgressInputPriority, Rules: []nft.Rule{
		{nft.L4Proto(unix.IPPROTO_UDP), nft.Dport(datapath.EgressPort, datapath.EgressPort), nft.Goto("wrapped")}}}
	wrapped := &nft.Chain{Name: "wrapped", Rules: []nft.Rule{
		{nft.IIFName(datapath.LinkPrefix + "*"), nft.Goto("injected")}, {nft.CTStatus(nft.DestinationNATed), nft.Goto("injected")},
	}}
	var sets []*nft.Set
	for _, f := range nft.Families {
		var at []nft.Element
		for _, x := range fars {
			if familyOf(x.at) == f {
				at = append(at, nft.Element{Key: nft.Addr(x.at)})
			}
		}
		name := "peers" + suffix(f)
		sets = append(sets, &nft.Set{Name: name, Type: f.AddrType(), Elements: nft.Sorted(at)})
		wrapped.Rules = append(wrapped.Rules, nft.Rule{nft.SaddrIn(f, name), nft.Return()})
	}
	wrapped.Rules = append(wrapped.Rules, nft.Rule{nft.Goto("injected")})
	return sets, []*nft.Chain{c, wrapped}
}
