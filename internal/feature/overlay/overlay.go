// Package overlay carries packets between the pods of different nodes.
//
// A packet for a pod of another node is routed to a VXLAN device, which wraps
// it in UDP and sends it to that node. All a node needs to know of a peer is in
// its Node object: the hardware address of a peer's device follows from the
// peer's name. For each peer there is a forwarding entry, and for each family a
// neighbour and a route, all permanent: nothing is learned from the wire, and
// no packet waits for discovery.
package overlay

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the overlay between nodes.
var Feature = feature.Feature{
	Name:   "overlay",
	Render: render,
	Reads: func(w *world.World) any {
		outer, i := w.Outer()
		return struct {
			node    *world.Node
			peers   *world.Peers
			overlay world.Overlay
			outer   netip.Addr
			found   string
			mtu     int
			left    int
		}{w.Node, w.Peers, w.Config.Overlay, outer, i.Name, w.PodMTU(), w.LeftMTU()}
	},
	Checks: []doctor.Check{fullSizePackets},
}

func render(w *world.World) feature.Result {
	var r feature.Result
	outer, i := w.Outer()
	if !outer.IsValid() {
		r.Problems = append(r.Problems, world.Problem{
			Object: "Node " + w.Node.Name, Field: "status.addresses", Reason: "has no InternalIP, so there is no overlay on it",
			Hint: "add an address of type InternalIP",
		})
		return r
	}
	if i.Name == "" {
		r.Problems = append(r.Problems, world.Problem{
			Object: "Node " + w.Node.Name, Field: "status.addresses",
			Reason: fmt.Sprintf("%s is on no interface of the node", outer),
			Hint:   "give the address to an interface, or correct the Node; the overlay assumes an MTU of 1500 meanwhile",
		})
	}
	if left := w.LeftMTU(); w.PodMTU() > left {
		r.Problems = append(r.Problems, world.Problem{
			Object: "Node " + w.Node.Name, Field: "overlay.mtu",
			Reason: fmt.Sprintf("pods send up to %d bytes, and the outer interface leaves %d of a packet: larger ones are fragmented", w.PodMTU(), left),
			Hint:   "raise the MTU between the nodes, or lower overlay.mtu (IPv6 needs 1280)",
		})
	}
	device := &link.Link{
		Name: datapath.VXLANLink, MTU: w.PodMTU(), MAC: MAC(w.Node.Name),
		VXLAN: &link.VXLAN{VNI: w.Config.Overlay.VNI, Port: w.Config.Overlay.Port, Local: outer},
	}
	for _, g := range w.Node.Gateways() {
		device.Addresses = append(device.Addresses, netip.PrefixFrom(g, g.BitLen()))
	}
	r.Part.Links = append(r.Part.Links, device)
	for _, p := range w.Peers.Nodes {
		if problem, ok := peer(&r.Part, w.Node, p); !ok {
			r.Problems = append(r.Problems, problem)
		}
	}
	return r
}

// MAC is the hardware address of the VXLAN device of the named node.
func MAC(node string) world.MAC { return world.HashMAC("vxlan " + node) }

// peer adds what leads to the pods of p.
func peer(part *datapath.Part, self, p *world.Node) (world.Problem, bool) {
	to, ok := p.Address(self.Addresses[0])
	if !ok {
		return world.Problem{
			Object: "Node " + p.Name, Field: "status.addresses",
			Reason: fmt.Sprintf("has no InternalIP of the family of %s, which carries the overlay of %s", self.Addresses[0], self.Name),
			Hint:   "list the nodes' addresses with the same family first",
		}, false
	}
	mac := MAC(p.Name)
	part.Neighbours = append(part.Neighbours, neigh.Neighbour{Link: datapath.VXLANLink, Addr: to, MAC: mac, Forward: true})
	for i, via := range p.Gateways() {
		if !hasFamily(self.PodCIDRs, via) {
			continue
		}
		part.Neighbours = append(part.Neighbours, neigh.Neighbour{Link: datapath.VXLANLink, Addr: via, MAC: mac})
		part.Routes = append(part.Routes, route.Route{Dst: p.PodCIDRs[i], Via: via, Link: datapath.VXLANLink, OnLink: true})
	}
	return world.Problem{}, true
}

func hasFamily(ps []netip.Prefix, like netip.Addr) bool {
	for _, p := range ps {
		if p.Addr().Is4() == like.Is4() {
			return true
		}
	}
	return false
}
