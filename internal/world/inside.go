package world

import "net/netip"

// notOutside is where no router leads: link-local of IPv6 (RFC 4291 2.5.6), multicast
// (RFC 5771, RFC 4291 2.7) and the limited broadcast (RFC 919). Link-local addresses
// of IPv4 (RFC 3927) that are not this node's are outside: a cloud answers at
// 169.254.169.254 its machines' addresses only.
var notOutside = []netip.Prefix{
	netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

var linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")

// Beside reports whether another network has the pods.
func (w *World) Beside() bool { return w.Config.Overlay.Mode == None }

// Inside is every destination towards which pods keep their addresses, the outermost
// prefixes in order. Of a peer's addresses that is one of each family, which carries the
// overlay: another one in its Node may be anybody's, and all pods would go there unmasked.
func (w *World) Inside() []netip.Prefix {
	out := append([]netip.Prefix(nil), notOutside...)
	out = append(out, w.Config.NonMasqueradeCIDRs...)
	if w.Beside() {
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
	return Outermost(out)
}
