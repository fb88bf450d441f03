package snat

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// madeOf is all that insides depends on.
type madeOf struct {
	node   *world.Node
	peers  *world.Peers
	config *world.Config
}

type insideMade struct {
	all  []netip.Prefix
	sets []*nft.Set // of each family
}

// insides returns what insideOf does, and as sets.
func insides(w *world.World) *insideMade {
	m := &insideMade{all: world.Outermost(insideOf(w))}
	for _, f := range nft.Families {
		m.sets = append(m.sets, &nft.Set{Name: inside(f), Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(ofFamily(f, m.all))})
	}
	return m
}

// notOutside is where no router leads: link-local of IPv6 (RFC 4291 2.5.6), multicast
// (RFC 5771, RFC 4291 2.7) and the limited broadcast (RFC 919). Link-local addresses
// of IPv4 (RFC 3927) that are not this node's are outside: a cloud answers at
// 169.254.169.254 its machines' addresses only.
var notOutside = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

var linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")

// insideOf is every destination towards which pods keep their addresses. Of a peer's
// that is one of each family, which carries the overlay: another one in its Node may
// be anybody's, and all pods would go there unmasked.
func insideOf(w *world.World) []netip.Prefix {
	out := append([]netip.Prefix(nil), notOutside...)
	out = append(out, w.Config.NonMasqueradeCIDRs...)
	if beside(w) {
		out = append(out, linkLocal4) // as everything inside, the other network's affair
	}
	add := func(addresses ...netip.Addr) {
		for _, a := range addresses {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	out = append(out, w.Node.PodCIDRs...)
	add(w.Node.Addresses...)
	for _, p := range w.Peers.Nodes {
		out = append(out, p.PodCIDRs...)
		for _, like := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			if ends := w.PeerEnds(p, like); len(ends) > 0 {
				add(ends[0])
			}
		}
	}
	return out
}
