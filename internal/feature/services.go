package feature

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// PassOver are the sets of what is Services' of the node's addresses, and the rules
// that leave it to who serves it: kube-proxy, before the node's own programs (mode
// ipvs) or just behind. Of ports of externalIPs only those count that some pod would
// have.
func PassOver(services *world.OfServices, has func(world.ServedPort) bool) (sets []*nft.Set, rules []nft.Rule) {
	addresses, ports := map[nft.Family][]nft.Element{}, map[nft.Family][]nft.Element{}
	of := func(a netip.Addr) nft.Family {
		if a.Is4() {
			return nft.IPv4
		}
		return nft.IPv6
	}
	for a := range services.Addresses {
		addresses[of(a)] = append(addresses[of(a)], nft.Element{Key: nft.Addr(a)})
	}
	for p := range services.Ports {
		if has(p) {
			f := of(p.Address)
			ports[f] = append(ports[f], nft.Element{Key: nft.Tuple(nft.Proto(p.Protocol), nft.Addr(p.Address), nft.Port(p.Port))})
		}
	}
	for _, f := range nft.Families {
		n := map[nft.Family]string{nft.IPv4: "4", nft.IPv6: "6"}[f]
		sets = append(sets, &nft.Set{Name: "services" + n, Type: f.AddrType(), Elements: nft.Sorted(addresses[f])},
			&nft.Set{Name: "served" + n, Type: nft.Concat(nft.InetProto, f.AddrType(), nft.InetService), Elements: nft.Sorted(ports[f])})
		rules = append(rules, nft.Rule{nft.DaddrIn(f, "services"+n), nft.Return()},
			nft.Rule{nft.In(f, "served"+n, nft.FieldProto, nft.FieldDaddr, nft.FieldDport), nft.Return()})
	}
	return sets, rules
}
