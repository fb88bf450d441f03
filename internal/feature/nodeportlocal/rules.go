package nodeportlocal

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Where the node talks to itself: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

// table leads the ports of d to its pods.
func table(d *Decision) *nft.Table {
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
		ports, held := d.elements(i)
		t.Sets = append(t.Sets,
			&nft.Set{Name: "ports" + n, Type: nft.Concat(nft.InetProto, nft.InetService), Data: nft.Concat(f.AddrType(), nft.InetService), Elements: nft.Sorted(ports)},
			&nft.Set{Name: "self" + n, Type: nft.Concat(f.AddrType(), f.AddrType()), Elements: d.selves(f == nft.IPv6)},
			&nft.Set{Name: "udp" + n, Type: nft.InetService, Elements: nft.Sorted(held)})
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

// elements are those of the maps of one family, and the UDP ports among them, in
// the order of sets.
func (d *Decision) elements(family int) (ports, udp []nft.Element) {
	ports = make([]nft.Element, 0, len(d.Ports.List))
	for i, in := range d.spaces.of[family] {
		for n := range in.slots {
			mapping := in.slots[n].mapping
			if mapping == 0 {
				continue
			}
			m := &d.Mappings[mapping-1]
			number := nft.Port(d.spaces.ports.Low + uint16(n))
			ports = append(ports, nft.Element{Key: nft.Tuple(nft.Proto(protocols[i]), number), Data: nft.Endpoint(netip.AddrPortFrom(m.Address, m.PodPort))})
			if protocols[i] == unix.IPPROTO_UDP {
				udp = append(udp, nft.Element{Key: number})
			}
		}
	}
	return ports, udp
}

// selves are the pods that could reach themselves.
func (d *Decision) selves(ipv6 bool) nft.Elements {
	out := make([]nft.Element, 0, len(d.Ports.List))
	var pod *world.Pod
	for i := range d.Mappings {
		m := &d.Mappings[i]
		if m.HostPort || m.Port.Number == 0 || m.Port.IPv6 != ipv6 || m.Pod == pod {
			continue
		}
		pod = m.Pod
		address := nft.Addr(m.Address)
		out = append(out, nft.Element{Key: nft.Tuple(address, address)})
	}
	return nft.Sorted(out) // each once: two pods may say that they have one address
}
