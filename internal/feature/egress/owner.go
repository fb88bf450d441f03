package egress

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/world"
)

// At the owner of an address, the number in the packet's mark, with the node that sent it,
// becomes the connection's mark; by that it is translated, and answers find back.

// nodesMap leads from hardware addresses of nodes to what marks call them.
const nodesMap = "nodes"

func ownedSet(f nft.Family) string { return "owned" + suffix(f) }

// arrived is what comes out of the tunnel.
func arrived() []*nft.Chain {
	arrived := &nft.Chain{Name: "arrived", Rules: []nft.Rule{
		{nft.CTState(nft.New), nft.Jump("begin")},
		{nft.MarkAs(wholeMark, datapath.EgressSeenMark)},
	}}
	begin := &nft.Chain{Name: "begin", Rules: []nft.Rule{
		{nft.SetFrom(nft.TargetCTMark, nft.IPv4, nodesMap, nft.FieldEtherSaddr), nft.Goto("number")},
		{nft.Counter(), nft.Drop()},
	}}
	number := &nft.Chain{Name: "number"}
	for bit := uint32(1); bit < 1<<nodeShift; bit <<= 1 {
		number.Rules = append(number.Rules, nft.Rule{nft.Mark(bit, bit), nft.CTMarkAs(bit, bit)})
	}
	for _, f := range nft.Families {
		number.Rules = append(number.Rules, nft.Rule{nft.IsFamily(f), nft.In(f, ownedSet(f), nft.FieldCTMarkBits(markNumber)), nft.Return()})
	}
	number.Rules = append(number.Rules, nft.Rule{nft.Counter(), nft.Drop()})
	return []*nft.Chain{arrived, begin, number}
}

// A kind is addresses whose ports are chosen alike.
type kind struct{ random, ranged bool }

func (k kind) name(f nft.Family) string {
	name := "whole"
	if k.ranged {
		name = "ranged"
	}
	if k.random {
		name += "-random"
	}
	return name + suffix(f)
}

// kinds are all, in the order in which they are asked. Those with neither have every
// address, for protocols without ports.
var kinds = []kind{{true, true}, {false, true}, {true, false}, {false, false}}

// addOwner adds what translates connections to the addresses of this node.
func addOwner(t *nft.Table, w *world.World, d decision) {
	translate := &nft.Chain{Name: "translate"}
	for _, f := range nft.Families {
		byKind := map[kind][]nft.Element{}
		var numbers []nft.Element
		for _, o := range d.owned {
			if familyOf(o.Address) != f {
				continue
			}
			key := nft.Number(uint32(o.Number))
			numbers = append(numbers, nft.Element{Key: key})
			k, ports := portsOf(w, o.Egress)
			if k.ranged {
				byKind[k] = append(byKind[k], nft.Element{Key: key, Data: nft.Block(o.Address, ports.Low, ports.High)})
			} else if k.random {
				byKind[k] = append(byKind[k], nft.Element{Key: key, Data: nft.Addr(o.Address)})
			}
			byKind[kind{}] = append(byKind[kind{}], nft.Element{Key: key, Data: nft.Addr(o.Address)})
		}
		t.Sets = append(t.Sets, &nft.Set{Name: ownedSet(f), Type: nft.MarkType, Elements: nft.Sorted(numbers)})
		for _, k := range kinds {
			if len(byKind[k]) == 0 {
				continue
			}
			set := &nft.Set{Name: k.name(f), Type: nft.MarkType, Data: f.AddrType(), Elements: nft.Sorted(byKind[k])}
			if k.ranged {
				set.Data, set.DataInterval = nft.Concat(f.AddrType(), nft.InetService), true
			}
			t.Sets = append(t.Sets, set)
			translate.Rules = append(translate.Rules, k.rules(f)...)
		}
	}
	translate.Rules = append(translate.Rules, nft.Rule{nft.Counter(), nft.Drop()})
	t.Chains = append(t.Chains, translate)
}

// rules translate what has a number of the kind's, which are all of one family.
func (k kind) rules(f nft.Family) []nft.Rule {
	snat := nft.SNAT{Family: f, By: nft.FieldCTMarkBits(markNumber), Map: k.name(f), Ports: k.ranged, FullyRandom: k.random}
	if !k.ranged {
		return []nft.Rule{{snat}}
	}
	var out []nft.Rule
	icmp := map[nft.Family]byte{nft.IPv4: unix.IPPROTO_ICMP, nft.IPv6: unix.IPPROTO_ICMPV6}[f]
	for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, icmp} {
		out = append(out, nft.Rule{nft.L4Proto(protocol), snat})
	}
	return out
}

// portsOf is how source ports of e's addresses are chosen on this node.
func portsOf(w *world.World, e *world.Egress) (kind, world.PortRange) {
	s := w.Config.EgressSNAT
	random, ports := w.WantsRandomPorts(s), e.Ports
	if e.Randomize != nil {
		random = *e.Randomize
	}
	if ports == (world.PortRange{}) {
		ports, _ = w.SourcePorts(s.Ports)
	}
	return kind{random && w.Kernel.Capabilities.FullyRandomPorts.OK, ports.High != 0}, ports
}

// sinkMAC is the hardware address of the device, which nobody sees.
var sinkMAC = [6]byte{0xee, 0xfa, 0x1e, 0xad, 0x00, 0x03}

// announce has the node answer for its addresses, without having them: what is sent to one
// and belongs to no connection ends in a device that drops it. The kernel answers only for
// what would leave by another link than the one who asks is on (net/ipv4/arp.c, arp_process).
func announce(w *world.World, d decision, p *datapath.Part) {
	if len(d.owned) > 0 {
		p.Links = append(p.Links, &link.Link{Name: datapath.EgressSinkLink, IFB: true, MTU: w.TunnelMTU(), MAC: sinkMAC})
	}
	for _, o := range d.owned {
		on := linkOf(w, o.Address)
		if held, _ := w.Kernel.Holding(o.Address); on == "" || held.Name != "" {
			continue // nobody asks, or the kernel answers anyway
		}
		p.Proxies = append(p.Proxies, neigh.Proxy{Link: on, Addr: o.Address})
		p.Routes = append(p.Routes, route.Route{Dst: netip.PrefixFrom(o.Address, o.Address.BitLen()), Link: datapath.EgressSinkLink})
		family := map[nft.Family]string{nft.IPv4: "ipv4", nft.IPv6: "ipv6"}[familyOf(o.Address)]
		set(p, "net/"+family+"/neigh/"+on+"/proxy_delay", "0")
		if o.Address.Is6() {
			set(p, "net/ipv6/conf/"+on+"/proxy_ndp", "1")
		}
	}
}

func set(p *datapath.Part, key, value string) {
	if s := (sysctl.Setting{Key: key, Value: value}); !slices.Contains(p.Settings, s) {
		p.Settings = append(p.Settings, s)
	}
}

// linkOf is the interface on whose network a is, or else by which the family leaves.
func linkOf(w *world.World, a netip.Addr) string {
	for _, i := range w.Kernel.Interfaces {
		for _, p := range i.Addresses {
			if p.Contains(a) && !p.IsSingleIP() && !i.Down {
				return i.Name
			}
		}
	}
	for _, x := range w.Kernel.Exits {
		if x.Address.Is4() == a.Is4() {
			return x.Interface
		}
	}
	return ""
}
