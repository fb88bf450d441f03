package world

import (
	"fmt"
	"net/netip"
	"slices"
)

// OfServices are the addresses of this node, and the ports of its addresses, that are
// Services': no pod gets a port there.
type OfServices struct {
	// Addresses are Services' altogether, with whose they are; zero: not known.
	Addresses map[netip.Addr]Key
	// Ports are those of addresses that others use too (spec.externalIPs).
	Ports map[ServedPort]Key
}

// A ServedPort is a port of one address.
type ServedPort struct {
	Address  netip.Addr
	Protocol byte
	Port     uint16
}

// serviceLinks are where kube-proxy in mode ipvs, and kube-router, put the addresses
// of Services, and nothing else.
var serviceLinks = []string{"kube-ipvs0", "kube-dummy-if"}

// ForServices reports whether i has addresses of Services only.
func (i Interface) ForServices() bool { return slices.Contains(serviceLinks, i.Name) }

// OfServices returns what of this node is Services'. Their own and their load
// balancers' addresses are, also those that the node has not, or not yet; of
// externalIPs, which anybody writes who may write a Service, the ports, on addresses
// that the node has. What is the node's by its Node object or its default route
// stays the node's, whatever Services say.
func (w *World) OfServices() *OfServices {
	o := &OfServices{Ports: map[ServedPort]Key{}}
	own, held := w.own(), map[netip.Addr]bool{}
	for _, i := range w.Kernel.Interfaces {
		for _, p := range i.Addresses {
			held[p.Addr()] = held[p.Addr()] || own[p.Addr()] || !i.ForServices()
		}
	}
	size := len(held)
	if w.Services != nil {
		size = max(size, len(w.Services.List))
	}
	o.Addresses = make(map[netip.Addr]Key, size)
	for a, others := range held {
		if !others {
			o.Addresses[a] = Key{}
		}
	}
	if w.Services == nil {
		return o
	}
	for _, s := range w.Services.List {
		if len(s.ClusterIPs) == 0 || s.Type == "ExternalName" {
			continue // nothing leads to its pods
		}
		for _, list := range [][]netip.Addr{s.ClusterIPs, s.Ingress} {
			for _, a := range list {
				if !own[a] {
					o.Addresses[a] = s.Key
				}
			}
		}
		for _, a := range s.ExternalIPs {
			if !held[a] || own[a] {
				continue
			}
			for _, p := range s.Ports {
				o.Ports[ServedPort{a, p.Protocol, p.Port}] = s.Key
			}
		}
	}
	return o
}

// own are the node's addresses whatever Services say.
func (w *World) own() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range slices.Concat(w.Node.Addresses, w.Node.External, w.Node.Gateways()) {
		out[a] = true
	}
	for _, e := range w.Kernel.Exits {
		out[e.Address] = true
	}
	return out
}

// Of says whose a port of one address is, where it is a Service's.
func (o *OfServices) Of(protocol byte, at netip.AddrPort) (who Key, ok bool) {
	if who, ok = o.Addresses[at.Addr()]; !ok {
		who, ok = o.Ports[ServedPort{at.Addr(), protocol, at.Port()}]
	}
	return who, ok
}

// Nobody says why a host port with an address leads nowhere: its address is not the
// node's, or what it names is a Service's.
func (w *World) Nobody(p HostPort, services *OfServices) (reason, hint string, nobody bool) {
	if p.Anywhere() {
		return "", "", false
	}
	hint = "write an address of the node, or leave hostIP out"
	whose, taken := services.Of(p.Protocol, netip.AddrPortFrom(p.Address, p.Port))
	switch {
	case taken && whose == (Key{}):
		return p.Address.String() + " is an address for Services", hint, true
	case taken:
		return fmt.Sprintf("it is of Service %s/%s", whose.Namespace, whose.Name), hint, true
	case !w.HasAddress(p.Address):
		return fmt.Sprintf("%s is no address of node %s", p.Address, w.Node.Name), hint, true
	}
	return "", "", false
}
