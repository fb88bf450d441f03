package nodeportlocal

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// Where the node talks to itself: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

// table leads the ports to their pods.
func (r *renderer) table(m *memory) *nft.Table {
	d := m.decision
	t := &nft.Table{Name: datapath.NodePortLocalTable}
	sets, passOver := feature.PassOver(d.services, d.has)
	t.Sets = append(t.Sets, sets...)
	toNode := nft.Rule{nft.DaddrLocal(), nft.Goto("ports")}
	in := &nft.Chain{Name: "prerouting", Type: nft.NAT, Hook: nft.Prerouting, Priority: datapath.NodePortLocalPriority, Rules: []nft.Rule{toNode}}
	out := &nft.Chain{Name: "output", Type: nft.NAT, Hook: nft.Output, Priority: datapath.NodePortLocalPriority, Rules: []nft.Rule{toNode}}
	back := &nft.Chain{Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.NodePortLocalSourcePriority}
	arrived := &nft.Chain{Name: "input", Type: nft.Filter, Hook: nft.Input, Priority: datapath.NodePortLocalInputPriority}
	dnat := &nft.Chain{Name: "ports", Rules: []nft.Rule{{nft.Daddr(loopback4), nft.Return()}, {nft.Daddr(loopback6), nft.Return()}}}
	dnat.Rules = append(dnat.Rules, passOver...)
	for i, f := range nft.Families {
		n := map[nft.Family]string{nft.IPv4: "4", nft.IPv6: "6"}[f]
		of := r.tables[i](m.served)
		t.Sets = append(t.Sets,
			&nft.Set{Name: "ports" + n, Type: nft.Concat(nft.InetProto, nft.InetService), Data: nft.Concat(f.AddrType(), nft.InetService), Elements: of[0]},
			&nft.Set{Name: "self" + n, Type: nft.Concat(f.AddrType(), f.AddrType()), Elements: of[1]},
			&nft.Set{Name: "udp" + n, Type: nft.InetService, Elements: of[2]})
		dnat.Rules = append(dnat.Rules, nft.Rule{nft.DNAT(f, "ports"+n, nft.FieldProto, nft.FieldDport)})
		back.Rules = append(back.Rules, nft.Rule{nft.In(f, "self"+n, nft.FieldSaddr, nft.FieldDaddr), nft.Masquerade{}})
		arrived.Rules = append(arrived.Rules, nft.Rule{nft.IsFamily(f), nft.L4Proto(unix.IPPROTO_UDP), nft.In(f, "udp"+n, nft.FieldDport), nft.Goto("refuse")})
	}
	refuse := &nft.Chain{Name: "refuse", Rules: []nft.Rule{{nft.Reject()}}}
	t.Chains = append(t.Chains, in, out, dnat, back, refuse, arrived)
	return t
}

// has reports whether a number is a pod's.
func (d *Decision) has(p world.ServedPort) bool {
	s := d.spaces.slot(world.Port{IPv6: p.Address.Is6(), Protocol: p.Protocol, Number: p.Port})
	return s != nil && s.mapping != 0
}

// elements makes those of the sets of one family of what pods are served by: the ports
// and where they lead, the pods that could reach themselves, and the UDP ports. Two pods
// may say that they have one address.
func elements(ipv6 bool) func(sorted.List[*served]) [3]nft.Elements {
	each := func(f func(entrance) nft.Element, takes func(entrance) bool) func(sorted.List[*served]) nft.Elements {
		return nft.EachOf(func(s *served) (out []nft.Element) {
			for _, l := range s.by {
				if l.IPv6 == ipv6 && takes(l) {
					out = append(out, f(l))
				}
			}
			return out
		}, compareServed)
	}
	all := func(entrance) bool { return true }
	ports := each(func(l entrance) nft.Element {
		return nft.Element{Key: nft.Tuple(nft.Proto(l.Protocol), nft.Port(l.Number)), Data: nft.Endpoint(l.to)}
	}, all)
	selves := each(func(l entrance) nft.Element {
		address := nft.Addr(l.to.Addr())
		return nft.Element{Key: nft.Tuple(address, address)}
	}, all)
	udp := each(func(l entrance) nft.Element { return nft.Element{Key: nft.Port(l.Number)} },
		func(l entrance) bool { return l.Protocol == unix.IPPROTO_UDP })
	return func(l sorted.List[*served]) [3]nft.Elements { return [3]nft.Elements{ports(l), selves(l), udp(l)} }
}
