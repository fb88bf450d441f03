package guard

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// The kernel takes what comes to the overlay's UDP port out of its wrapping, from
// whomever and at whichever address of the node it comes, and it is then a packet
// of the pod network. So that port takes packets of peers only, sent to an address
// by which they know this node, and nothing that was led there by a translation
// (as by a Service whose endpoint is a node) or that comes out of a pod or of the
// tunnel itself. What pods send to the port of another node is stopped here
// already: there, it would seem to be this node's.
//
// What peers send each other's tunnels is known before conntrack, which does not
// track it: each connection of a pod would be two more there, and a Service could
// lead the tunnel elsewhere. It gets a priority by which it is known once it is
// unwrapped. Everything else at the port is tracked and ends in input; what
// somebody else's rules kept untracked lacks the priority.

// peers names the set of nodes whose packets the tunnel takes.
func peers(f nft.Family) string { return fmt.Sprintf("peers%d", f) }

// room is that of a set of n peers: every packet between nodes is looked up there, on
// its way out and in. It is much at once, since with it the whole table is made anew.
func room(n int) uint32 {
	const first, step = 1 << 12, 1 << 4
	room := uint32(first)
	for n > int(room) {
		room *= step
	}
	return room
}

// madeOf is all that the tunnel's part of the table depends on. There is no tunnel
// without a port.
type madeOf struct {
	node   *world.Node
	peers  *world.Peers
	config *world.Config
	ends   string
	port   int
}

func tunnelOf(w *world.World) madeOf {
	of := madeOf{node: w.Node, peers: w.Peers, config: w.Config, ends: fmt.Sprint(addresses(w.Ends()))}
	if w.Config.HasOverlay() && len(w.Ends()) > 0 {
		of.port = w.Config.Overlay.Port
	}
	return of
}

func addresses(ends []world.End) (out []netip.Addr) {
	for _, e := range ends {
		out = append(out, e.Address)
	}
	return out
}

// A made is what the cluster's nodes come to. While nothing that it is made of changes
// it is the same value: a pod that comes renders the table anew, and in a large
// cluster this is nearly all of it.
type made struct {
	sets     []*nft.Set
	speakers []netip.Prefix // who may speak through the tunnel, in order
}

func ofNodes(w *world.World) *made {
	var all []netip.Addr
	for _, p := range w.Peers.Nodes {
		all = append(all, p.Addresses...)
		all = append(all, p.Ends...)
	}
	own := ownAddresses(w)
	all = slices.DeleteFunc(all, func(a netip.Addr) bool { return slices.Contains(own, a) })
	m := &made{speakers: insideOf(w, own)}
	for _, f := range nft.Families {
		of := elements(f, all)
		m.sets = append(m.sets, &nft.Set{Name: peers(f), Type: f.AddrType(), Room: room(of.Len()), Elements: of})
	}
	return m
}

// ownAddresses are those by which peers may know this node, each once.
func ownAddresses(w *world.World) []netip.Addr {
	all := append(slices.Clone(w.Node.Addresses), addresses(w.Ends())...)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// elements are the addresses of a family, each once.
func elements(f nft.Family, all []netip.Addr) nft.Elements {
	var out []nft.Element
	for _, a := range all {
		if familyOf(a) == f {
			out = append(out, nft.Element{Key: nft.Addr(a)})
		}
	}
	slices.SortFunc(out, func(a, b nft.Element) int { return slices.Compare([]byte(a.Key), []byte(b.Key)) })
	return nft.Sorted(slices.Compact(out))
}

func ofFamily(f nft.Family, ps []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(ps), func(p netip.Prefix) bool { return familyOf(p.Addr()) != f })
}

// nobody is what no packet from elsewhere has as its source: this network, loopback,
// link-local, multicast and broadcast (RFC 6890, RFC 4291).
var nobody = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), loopback4, netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// insideOf is whose packets peers may pass on: their pods, whose network has an
// address of the node too, the nodes themselves, and those whom pods reach without
// translation, whose answers come by whichever node they find. Nothing of that is
// this node's own.
func insideOf(w *world.World, own []netip.Addr) []netip.Prefix {
	out := slices.Clone(w.Config.NonMasqueradeCIDRs)
	for _, p := range w.Peers.Nodes {
		out = append(out, p.PodCIDRs...)
		out = append(out, single(p.Addresses)...)
		out = append(out, single(p.Ends)...)
	}
	for _, not := range slices.Concat(nobody, w.Node.PodCIDRs, single(own), single(w.Node.External)) {
		out = without(out, not)
	}
	return world.Outermost(out)
}

func single(all []netip.Addr) (out []netip.Prefix) {
	for _, a := range all {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// without is ps less not: of a prefix around it remain the halves beside it.
func without(ps []netip.Prefix, not netip.Prefix) []netip.Prefix {
	if !slices.ContainsFunc(ps, not.Overlaps) {
		return ps
	}
	var out []netip.Prefix
	for _, p := range ps {
		if !p.Overlaps(not) {
			out = append(out, p)
			continue
		}
		for bits := p.Bits() + 1; bits <= not.Bits(); bits++ {
			out = append(out, sibling(netip.PrefixFrom(not.Addr(), bits).Masked()))
		}
	}
	return out
}

// sibling is the other half of the prefix that p is half of.
func sibling(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	b[(p.Bits()-1)/8] ^= 0x80 >> ((p.Bits() - 1) % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}

// toTunnel is a rule for what is sent to the tunnel's port.
func toTunnel(port int, then ...nft.Expr) nft.Rule {
	return append(nft.Rule{nft.L4Proto(unix.IPPROTO_UDP), nft.Dport(uint16(port), uint16(port))}, then...)
}

// addTunnel adds to the table what is for packets to the tunnel's port, of this node
// and of others.
func addTunnel(t *nft.Table, w *world.World, nodes *made, port int) {
	t.Sets = append(t.Sets, nodes.sets...)
	byOurs := nft.IIFName(datapath.LinkPrefix + "*")
	wrapped := &nft.Chain{Name: "wrapped", Rules: []nft.Rule{{byOurs, nft.Accept()}}} // to be tracked
	passing := &nft.Chain{Name: "passing"}
	output := &nft.Chain{Name: "output", Type: nft.Filter, Hook: nft.Output, Priority: datapath.GuardPriority}
	for _, own := range single(ownAddresses(w)) {
		f := familyOf(own.Addr())
		wrapped.Rules = append(wrapped.Rules,
			nft.Rule{nft.Daddr(own), nft.SaddrIn(f, peers(f)), nft.SetPriority(datapath.TunnelPriority), nft.NoTrack(), nft.Accept()})
	}
	for _, f := range nft.Families {
		output.Rules = append(output.Rules, toTunnel(port, nft.DaddrIn(f, peers(f)), nft.NoTrack(), nft.Accept()))
		passing.Rules = append(passing.Rules,
			nft.Rule{byOurs, nft.DaddrIn(f, peers(f)), nft.Goto("injected")},
			nft.Rule{nft.CTStatus(nft.DestinationNATed), nft.DaddrIn(f, peers(f)), nft.Goto("injected")})
	}
	arriving(t).Rules = append(arriving(t).Rules, toTunnel(port, nft.Goto(wrapped.Name)))
	t.Chains = append(t.Chains, wrapped, passing, refused("injected"), output,
		// Only the first packet of a connection meets chains of this type, and others
		// cost nothing.
		&nft.Chain{Name: "input", Type: nft.NAT, Hook: nft.Input, Priority: datapath.GuardSourcePriority,
			Rules: []nft.Rule{toTunnel(port, nft.Goto("injected"))}},
		&nft.Chain{Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.GuardSourcePriority,
			Rules: []nft.Rule{toTunnel(port, nft.Goto(passing.Name))}})
}

// arriving is the table's chain of what arrives, whose first rule makes it.
func arriving(t *nft.Table) *nft.Chain {
	const name = "prerouting"
	if i := slices.IndexFunc(t.Chains, func(c *nft.Chain) bool { return c.Name == name }); i >= 0 {
		return t.Chains[i]
	}
	c := &nft.Chain{Name: name, Type: nft.Filter, Hook: nft.Prerouting, Priority: datapath.GuardPriority}
	t.Chains = append(t.Chains, c)
	return c
}
