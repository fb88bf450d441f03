package snat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// A way is how packets of one family leave the node.
type way struct {
	Address   netip.Addr // the source that the node's own get; zero: there is no way
	Interface string     // by which they leave; "": any
	Said      bool       // the rule has to have the address written
}

func (w way) matches() nft.Rule {
	if w.Interface == "" {
		return nil
	}
	return nft.Rule{nft.OIFName(w.Interface)}
}

// waysOf are the ways of the default routes, the best first.
func waysOf(w *world.World, f nft.Family) []way {
	var out []way
	for _, u := range w.Kernel.Uplinks {
		if is(f, u.Address) {
			out = append(out, way{u.Address, u.Interface, u.Said})
		}
	}
	return out
}

// saidWays are those by which packets get an address that stands in the rule: one that
// the route says and masquerade would not give, or one that masquerade would look for
// long; those of blocks, which have one themselves, are left out.
func saidWays(w *world.World, f nft.Family) []way {
	out := waysOf(w, f)
	if f == nft.IPv6 {
		out = append(out, onlyWays(w, out)...)
	}
	return slices.DeleteFunc(out, func(u way) bool {
		return !u.Said || InForce(w).Block > 0 && u.Address == wayOut(w, f).Address
	})
}

// mostOnly bounds the ways of onlyWays: each is a rule.
const mostOnly = 4

// onlyWays are those of interfaces with one IPv6 address that is not link-local and
// that stays. Masquerade takes the same (RFC 6724, rule 5), but for each connection it
// compares all addresses of the node (ipv6_dev_get_saddr in net/ipv6/addrconf.c), of
// which each pod's veth pair has one. It stays where the address may go by itself.
func onlyWays(w *world.World, but []way) (out []way) {
	all := slices.Clone(w.Kernel.Interfaces)
	slices.SortStableFunc(all, func(a, b world.Interface) int { return cmp.Compare(rank(a), rank(b)) })
	for _, i := range all {
		said := slices.ContainsFunc(but, func(u way) bool { return u.Said && u.Interface == i.Name })
		if a, is := only(i); is && !said && len(out) < mostOnly {
			out = append(out, way{a, i.Name, true})
		}
	}
	return out
}

// rank puts interfaces first at whose far end is a network.
func rank(i world.Interface) int {
	if i.Hardware {
		return 0
	}
	return 1
}

// only is the one address of an interface by which packets may leave.
func only(i world.Interface) (netip.Addr, bool) {
	if i.Name == "lo" || i.Port || i.Down {
		return netip.Addr{}, false
	}
	var out []netip.Addr
	for _, p := range i.Addresses {
		if is(nft.IPv6, p.Addr()) && !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.Addr())
		}
	}
	if len(out) != 1 || slices.Contains(i.Fleeting, out[0]) {
		return netip.Addr{}, false
	}
	return out[0], true
}

// said are the addresses of these ways, in their order.
func said(w *world.World, f nft.Family) (out []netip.Addr) {
	for _, u := range saidWays(w, f) {
		if !slices.Contains(out, u.Address) {
			out = append(out, u.Address)
		}
	}
	return out
}

// asChain is the chain that gives packets the n-th of the said addresses.
func asChain(f nft.Family, n int) string { return fmt.Sprintf("as%s-%d", suffix(f), n+1) }

// asSaid are the chains that give packets what the routes say.
func (p Ports) asSaid(w *world.World) (out []*nft.Chain) {
	for _, f := range nft.Families {
		for n, a := range said(w, f) {
			out = append(out, &nft.Chain{Name: asChain(f, n), Rules: p.as(a, p.Range)})
		}
	}
	return out
}

// as gives packets an address, and those of protocols with ports a port out of from.
func (p Ports) as(a netip.Addr, from world.PortRange) []nft.Rule {
	var out []nft.Rule
	for _, number := range ported(familyOf(a)) {
		out = append(out, nft.Rule{nft.L4Proto(number), nft.SNATTo{Address: a, Low: from.Low, High: from.High, FullyRandom: p.Randomized}})
	}
	return append(out, nft.Rule{nft.SNATTo{Address: a}})
}

// A Given says which addresses pods get that stand in rules, for which the kernel does
// not forget connections by itself.
type Given struct {
	By        map[string]netip.Addr // by interface and family, as key has it; "" of any
	Addresses map[netip.Addr]bool
}

// GivenAddresses returns the addresses of rules: of blocks, and of routes that say one.
func GivenAddresses(w *world.World) Given {
	g := Given{map[string]netip.Addr{}, map[netip.Addr]bool{}}
	for _, f := range nft.Families {
		ways := saidWays(w, f)
		if InForce(w).Block > 0 {
			ways = append(ways, blockWays(w, f)...)
		}
		for _, u := range ways {
			g.By[suffix(f)+u.Interface], g.Addresses[u.Address] = u.Address, true
		}
	}
	return g
}

// At returns the address in rules of packets towards a that leave by an interface.
func (g Given) At(a netip.Addr, link string) (netip.Addr, bool) {
	if by, ok := g.By[suffix(familyOf(a))+link]; ok {
		return by, true
	}
	by, ok := g.By[suffix(familyOf(a))]
	return by, ok
}
