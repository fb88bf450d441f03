// Package hostport leads ports of the node to ports of its pods: what a pod asks
// for as hostPort.
//
// It stands in prerouting and output, just before kube-proxy, and looks at
// connections to the node's own addresses only, and passes over those that are
// Services' (on kube-ipvs0, or that of a load balancer). Their destination becomes the
// pod's; the client's address stays, so that the pod sees who is talking, but
// where its answers would not come back by the node: a pod that reaches itself by
// its node, and the node's own loopback. These get an address of the node.
//
// A host port is an element of a map, never a rule. A node without host ports has
// no table.
//
// The node's 127.0.0.1 leads out by a pod's wire only with route_localnet on it
// (Linux Documentation/networking/ip-sysctl.rst), which would open the node's
// loopback to that pod as well (CVE-2020-8558). Package pod sets route_localnet,
// with the rest of the wire, and only where package guard keeps that loopback
// closed. IPv6 has no such setting, so [::1] is left to what listens on the node.
package hostport

import (
	"fmt"
	"golang.org/x/sys/unix"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is host ports.
var Feature = feature.Feature{
	Name:       "hostport",
	PodNetwork: true,
	Render:     func() feature.Render { return feature.Memo(readsOf, render) },
	Astray:     astray, Refuses: refuses,
	Needs: world.Needs{Services: true},
}

// reads is all that render looks at.
type reads struct {
	attachments *world.Attachments
	kernel      *world.Kernel
	node        *world.Node
	own         string
	services    *world.Sorted[world.Service]
}

func readsOf(w *world.World) reads {
	return reads{w.Attachments, w.Kernel, w.Node, fmt.Sprint(w.OwnPorts()), servicesFor(w)}
}

// A family is the maps of one address family.
type family struct {
	anywhere []nft.Element // protocol . port leads to the pod's address . port
	at       []nft.Element // protocol . address . port leads to the pod's address . port
	self     []nft.Element // source . destination of a pod that reaches itself
}

// A Port is a host port that leads to its pod.
type Port struct {
	world.HostPort
	Pod *world.Attachment
}

func render(w *world.World) feature.Result {
	var r feature.Result
	families := map[nft.Family]*family{nft.IPv4: {}, nft.IPv6: {}}
	for _, a := range w.Attachments.List {
		if !hasPorts(w, a) {
			continue
		}
		for _, addr := range a.Addresses {
			f := families[familyOf(addr)]
			f.self = append(f.self, nft.Element{Key: nft.Tuple(nft.Addr(addr), nft.Addr(addr))})
		}
	}
	services := w.OfServices()
	held := decide(w, func(p Port, reason, hint string) { tell(&r, p, reason, hint) })
	for _, p := range held {
		reason, hint, nobody := w.Nobody(p.HostPort, services)
		switch led := lead(families, p); {
		case !led:
			tell(&r, p, fmt.Sprintf("host port %s is not DNATed: the pod has no address of its family", p),
				"choose an address of the other family, or leave hostIP out")
		// It is in the map all the same: where the address comes, it leads from then on.
		case nobody && w.HasAddress(p.Address):
			tell(&r, p, fmt.Sprintf("host port %s is not DNATed: %s", p, reason), hint)
		case nobody:
			tell(&r, p, fmt.Sprintf("host port %s is not DNATed: %s", p, reason),
				hint+"; if the node gets the address later, the port begins to work")
		}
	}
	for _, p := range held {
		for _, addr := range p.Pod.Addresses {
			if p.Protocol == unix.IPPROTO_UDP {
				r.Leads = append(r.Leads, feature.Lead{Port: p.HostPort, To: netip.AddrPortFrom(addr, p.PodPort)})
			}
		}
	}
	if len(held) > 0 {
		r.Part.Tables = append(r.Part.Tables, table(families, held, services))
		r.Part.Settings = append(r.Part.Settings, feature.LiberalTCP)
	}
	return r
}

// Ports are the host ports that lead to pods.
func Ports(w *world.World) []Port {
	return decide(w, func(Port, string, string) {})
}

// decide says which host ports lead to their pods: not those that Fairlead listens
// on itself, and of two pods with one port the first. It tells of the others.
func decide(w *world.World, tell func(p Port, reason, hint string)) []Port {
	var held []Port
	of := map[uint16][]Port{} // held, by number
	for _, a := range w.Attachments.List {
		if !hasPorts(w, a) {
			continue
		}
		for _, host := range a.HostPorts {
			p := Port{host, a}
			i := slices.IndexFunc(of[p.Port], func(h Port) bool { return h.Overlaps(host) })
			switch reason, hint, ours := own(w, host); {
			case ours:
				tell(p, reason, hint)
			case i >= 0:
				tell(p, fmt.Sprintf("host port %s is taken by pod %s", p, name(of[p.Port][i].Pod)), "choose another port, or let the scheduler find another node")
			default:
				held, of[p.Port] = append(held, p), append(of[p.Port], p)
			}
		}
	}
	return held
}

// servicesFor are those that count: none, where no pod has a host port.
func servicesFor(w *world.World) *world.Sorted[world.Service] {
	if !slices.ContainsFunc(w.Attachments.List, func(a *world.Attachment) bool { return hasPorts(w, a) }) {
		return nil
	}
	return w.Services
}

// byNumber are the ports of both families by protocol and number.
func byNumber(all []Port) map[world.Port][]Port {
	out := map[world.Port][]Port{}
	for _, p := range all {
		for _, number := range p.Ports() {
			out[number] = append(out[number], p)
		}
	}
	return out
}

// taken reports whether one of the ports is that of an address.
func taken(ports map[world.Port][]Port, protocol byte, at netip.AddrPort) bool {
	number := world.Port{IPv6: at.Addr().Is6(), Protocol: protocol, Number: at.Port()}
	return slices.ContainsFunc(ports[number], func(p Port) bool { return p.Anywhere() || p.Address == at.Addr() })
}

func hasPorts(w *world.World, a *world.Attachment) bool {
	return !a.Chained && len(a.HostPorts) > 0 && !w.Kernel.Lost(a)
}

// refuses refuses pods with ports that Fairlead listens on itself.
func refuses(w *world.World, a *world.Attachment) (reason, hint string) {
	for _, p := range a.HostPorts {
		if reason, hint, is := own(w, p); is {
			return reason, hint
		}
	}
	return "", ""
}

// own says why p is no pod's, and the way out, where Fairlead listens on it itself.
func own(w *world.World, p world.HostPort) (reason, hint string, own bool) {
	o, ours := w.Own(p)
	if !ours {
		return "", "", false
	}
	return fmt.Sprintf("host port %s is Fairlead's own: %s", p, o.Use), "choose another port, or " + o.Way, true
}

func name(a *world.Attachment) string { return a.Namespace + "/" + a.Pod }

// mostTold bounds the events of one turn; a pod may have thousands of host ports.
const mostTold = 50

// tell tells a pod's user what is wrong with one of its host ports.
func tell(r *feature.Result, p Port, reason, hint string) {
	pod := "Pod " + name(p.Pod)
	r.Problems = append(r.Problems, world.Problem{Object: pod, Field: "spec.containers[].ports[].hostPort", Reason: reason, Hint: hint})
	if len(r.Events) < mostTold {
		r.Events = append(r.Events, world.Event{Object: pod, Type: world.Warning, Reason: "HostPortNotLed", Message: reason + "; " + hint, Subject: p.String()})
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
func lead(families map[nft.Family]*family, p Port) bool {
	led := false
	for _, addr := range p.Pod.Addresses {
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

func table(families map[nft.Family]*family, held []Port, services *world.OfServices) *nft.Table {
	t := &nft.Table{Name: datapath.HostPortTable}
	ports := byNumber(held)
	sets, passOver := feature.PassOver(services, func(s world.ServedPort) bool {
		return taken(ports, s.Protocol, netip.AddrPortFrom(s.Address, s.Port))
	})
	t.Sets = append(t.Sets, sets...)
	ours := datapath.LinkPrefix + "*"
	toNode := nft.Rule{nft.DaddrLocal(), nft.Goto("ports")}
	in := &nft.Chain{Name: "prerouting", Type: nft.NAT, Hook: nft.Prerouting, Priority: datapath.HostPortPriority, Rules: []nft.Rule{toNode}}
	out := &nft.Chain{Name: "output", Type: nft.NAT, Hook: nft.Output, Priority: datapath.HostPortPriority,
		Rules: []nft.Rule{{nft.Daddr(loopback6), nft.Accept()}, toNode}}
	back := &nft.Chain{Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.HostPortSourcePriority}
	dnat := &nft.Chain{Name: "ports", Rules: passOver}
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
	t.Chains = append(t.Chains, in, out, dnat, back)
	return t
}
