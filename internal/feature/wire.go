package feature

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/world"
)

// Wire is the name of the node's end of an attachment's wire.
func Wire(a *world.Attachment) string {
	if a.Wire != "" {
		return a.Wire
	}
	return LinkName(a.ContainerID, a.Interface)
}

// LinkName is the name of the node's end of the wire of a container's interface.
func LinkName(containerID, ifname string) string {
	return datapath.LinkPrefix + world.ShortHash(containerID+"/"+ifname)
}

// PodMAC is the hardware address of the pod's end of an attachment's wire.
func PodMAC(containerID, ifname string) world.MAC {
	return world.HashMAC("pod " + containerID + "/" + ifname)
}

var (
	gateway4 = netip.MustParseAddr(datapath.PodGateway4)
	gateway6 = netip.MustParseAddr(datapath.PodGateway6)
)

// PodGateway is the next hop inside a pod for the family of addr.
func PodGateway(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		return gateway6
	}
	return gateway4
}

// AddWire adds an attachment's veth pair to p, and how the node reaches the pod by it.
func AddWire(p *datapath.Part, mtu int, a *world.Attachment) *link.Link {
	l := &link.Link{Name: LinkName(a.ContainerID, a.Interface), MTU: mtu, MAC: datapath.WireMAC,
		Veth: &link.Veth{Netns: a.Netns, Peer: link.Peer{Name: a.Interface, MAC: PodMAC(a.ContainerID, a.Interface), Addresses: a.Addresses}}}
	for _, addr := range a.Addresses {
		l.Veth.Peer.Gateways = append(l.Veth.Peer.Gateways, PodGateway(addr))
		p.Neighbours = append(p.Neighbours, neigh.Neighbour{Link: l.Name, Addr: addr, MAC: l.Veth.Peer.MAC})
		p.Routes = append(p.Routes, route.Route{Dst: netip.PrefixFrom(addr, addr.BitLen()), Link: l.Name})
	}
	p.Links = append(p.Links, l)
	return l
}

// Namesake returns the attachment among all whose wire has the name that at's would
// have, if another has: names are hashes.
func Namesake(all []*world.Attachment, at *world.Attachment, name func(containerID, ifname string) string) *world.Attachment {
	wanted := name(at.ContainerID, at.Interface)
	for _, o := range all {
		if o.Key() != at.Key() && !o.Chained && name(o.ContainerID, o.Interface) == wanted {
			return o
		}
	}
	return nil
}
