// Package hostport leads ports of the node to ports of its pods: what a pod asks
// for as hostPort.
//
// It stands in prerouting and output, just before kube-proxy, and looks at
// connections to the node's own addresses only. Their destination becomes the
// pod's; the client's address stays, so that the pod sees who is talking, but
// where its answers would not come back by the node: a pod that reaches itself by
// its node, and the node's own loopback. These get an address of the node.
//
// A host port is an element of a map, never a rule. A node without host ports has
// no table.
//
// The node's 127.0.0.1 leads out by a pod's wire only with route_localnet on it
// (Linux Documentation/networking/ip-sysctl.rst), which would open the node's
// loopback to that pod as well (CVE-2020-8558): nothing that comes in by a link of
// ours passes with a loopback address. Package pod sets route_localnet, with the
// rest of the wire. IPv6 has no such setting, so [::1] is left to what listens on
// the node.
package hostport

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is host ports.
var Feature = feature.Feature{
	Name:   "hostport",
	Render: render,
	Reads: func(w *world.World) any {
		return struct {
			attachments *world.Attachments
			kernel      *world.Kernel
			node        *world.Node
		}{w.Attachments, w.Kernel, w.Node}
	},
}

// A family is the maps of one address family.
type family struct {
	anywhere []nft.Element // protocol . port leads to the pod's address . port
	at       []nft.Element // protocol . address . port leads to the pod's address . port
	self     []nft.Element // source . destination of a pod that reaches itself
}

// holder is who has a host port.
type holder struct {
	pod  *world.Attachment
	port world.HostPort
}

func render(w *world.World) feature.Result {
	var r feature.Result
	families := map[nft.Family]*family{nft.IPv4: {}, nft.IPv6: {}}
	var held []holder
	for _, a := range w.Attachments.List {
		if a.Chained || len(a.HostPorts) == 0 || w.Kernel.Lost(a) {
			continue
		}
		for _, addr := range a.Addresses {
			f := families[familyOf(addr)]
			f.self = append(f.self, nft.Element{Key: nft.Tuple(nft.Addr(addr), nft.Addr(addr))})
		}
		for _, p := range a.HostPorts {
			if i := slices.IndexFunc(held, func(h holder) bool { return h.port.Overlaps(p) }); i >= 0 {
				tell(&r, holder{a, p}, fmt.Sprintf("host port %s is taken by pod %s", p, name(held[i].pod)),
					"choose another port, or let the scheduler find another node")
				continue
			}
			held = append(held, holder{a, p})
			switch led := lead(families, a, p); {
			case !led:
				tell(&r, holder{a, p}, fmt.Sprintf("host port %s leads nowhere: the pod has no address of its family", p),
					"choose an address of the other family, or leave hostIP out")
			// It is in the map all the same: where the address comes, it leads from then on.
			case !p.Anywhere() && !w.HasAddress(p.Address):
				tell(&r, holder{a, p}, fmt.Sprintf("host port %s leads nowhere: %s is no address of node %s", p, p.Address, w.Node.Name),
					"write an address of the node, or leave hostIP out; where the node gets the address, the port follows")
			}
		}
	}
	if len(held) > 0 {
		r.Part.Tables = append(r.Part.Tables, table(families))
	}
	return r
}

func name(a *world.Attachment) string { return a.Namespace + "/" + a.Pod }

// mostTold bounds the events of one turn; a pod may have thousands of host ports.
const mostTold = 50

// tell tells a pod's user what is wrong with one of its host ports.
func tell(r *feature.Result, h holder, reason, hint string) {
	pod := "Pod " + name(h.pod)
	r.Problems = append(r.Problems, world.Problem{Object: pod, Field: "spec.containers[].ports[].hostPort", Reason: reason, Hint: hint})
	if len(r.Events) < mostTold {
		r.Events = append(r.Events, world.Event{Object: pod, Type: world.Warning, Reason: "HostPortNotLed", Message: reason + "; " + hint, Subject: h.port.String()})
	}
}

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}

// lead leads the port to the pod in every family that both have, and reports
// whether there is one.
func lead(families map[nft.Family]*family, a *world.Attachment, p world.HostPort) bool {
	led := false
	for _, addr := range a.Addresses {
		f, to := families[familyOf(addr)], nft.Endpoint(netip.AddrPortFrom(addr, p.PodPort))
		switch {
		case p.Anywhere():
			f.anywhere = append(f.anywhere, nft.Element{Key: nft.Tuple(nft.Proto(p.Protocol), nft.Port(p.Port)), Data: to})
		case p.Address.Is4() == addr.Is4():
			f.at = append(f.at, nft.Element{Key: nft.Tuple(nft.Proto(p.Protocol), nft.Addr(p.Address), nft.Port(p.Port)), Data: to})
		default:
			continue
		}
		led = true
	}
	return led
}

// Where the node talks to itself: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

func table(families map[nft.Family]*family) *nft.Table {
	t := &nft.Table{Name: datapath.HostPortTable}
	ours := datapath.LinkPrefix + "*"
	guard := &nft.Chain{
		Name: "loopback", Type: nft.Filter, Hook: nft.Prerouting, Priority: datapath.LoopbackPriority,
		Rules: []nft.Rule{
			{nft.IIFName(ours), nft.Daddr(loopback4), nft.Drop()},
			{nft.IIFName(ours), nft.Saddr(loopback4), nft.Drop()},
		},
	}
	toNode := nft.Rule{nft.DaddrLocal(), nft.Goto("ports")}
	in := &nft.Chain{Name: "prerouting", Type: nft.NAT, Hook: nft.Prerouting, Priority: datapath.HostPortPriority, Rules: []nft.Rule{toNode}}
	out := &nft.Chain{Name: "output", Type: nft.NAT, Hook: nft.Output, Priority: datapath.HostPortPriority,
		Rules: []nft.Rule{{nft.Daddr(loopback6), nft.Accept()}, toNode}}
	back := &nft.Chain{Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.HostPortSourcePriority}
	dnat := &nft.Chain{Name: "ports"}
	for _, f := range nft.Families {
		n := fmt.Sprint(int(f))
		endpoint := nft.Concat(f.AddrType(), nft.InetService)
		t.Sets = append(t.Sets,
			&nft.Set{Name: "at" + n, Type: nft.Concat(nft.InetProto, f.AddrType(), nft.InetService), Data: endpoint, Elements: nft.Sorted(families[f].at)},
			&nft.Set{Name: "anywhere" + n, Type: nft.Concat(nft.InetProto, nft.InetService), Data: endpoint, Elements: nft.Sorted(families[f].anywhere)},
			&nft.Set{Name: "self" + n, Type: nft.Concat(f.AddrType(), f.AddrType()), Elements: nft.Sorted(families[f].self)})
		dnat.Rules = append(dnat.Rules,
			nft.Rule{nft.DNAT(f, "at"+n, nft.FieldProto, nft.FieldDaddr, nft.FieldDport)},
			nft.Rule{nft.DNAT(f, "anywhere"+n, nft.FieldProto, nft.FieldDport)})
		back.Rules = append(back.Rules, nft.Rule{nft.In(f, "self"+n, nft.FieldSaddr, nft.FieldDaddr), nft.Masquerade{}})
	}
	back.Rules = append(back.Rules, nft.Rule{nft.OIFName(ours), nft.Saddr(loopback4), nft.Masquerade{}})
	t.Chains = append(t.Chains, guard, in, out, dnat, back)
	return t
}
