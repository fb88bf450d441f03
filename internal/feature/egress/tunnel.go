package egress

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/world"
)

// The tunnel is a VXLAN device with group-based policy, which carries 16 bits of a packet's
// mark. What is steered is routed to it, with a next hop that nobody has; on its way out the
// hardware address of the node that the mark names takes that one's place. So there is one
// rule of routing and one route, whatever nodes there are.

// own4 is an IPv4 address of the device: without one the kernel's loose reverse path filter
// drops what comes by it (net/ipv4/fib_frontend.c, __fib_validate_source).
var own4 = netip.MustParsePrefix("169.254.157.1/32")

// nowhere are the next hops in the tunnel, and nowhereMAC is their hardware address.
var (
	nowhere    = map[nft.Family]netip.Addr{nft.IPv4: netip.MustParseAddr("169.254.157.2"), nft.IPv6: netip.MustParseAddr("fe80::157:2")}
	nowhereMAC = [6]byte{0xee, 0xfa, 0x1e, 0xad, 0x00, 0x02}
)

var all = map[nft.Family]netip.Prefix{nft.IPv4: netip.PrefixFrom(netip.IPv4Unspecified(), 0), nft.IPv6: netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// A far is a peer that the tunnel leads to.
type far struct {
	index uint16
	mac   world.MAC
	at    netip.Addr // on the underlay
}

// farsOf are the peers that packets can be sent to, in the order of their names. Of two that
// say they have an address, nobody knows whose it is.
func farsOf(w *world.World, ix *Indices) []far {
	ends := w.Ends()
	if len(ends) == 0 {
		return nil
	}
	said := map[netip.Addr]int{}
	var out []far
	for _, p := range w.Peers.Nodes {
		index, known := ix.of(p.Name)
		at := w.PeerEnds(p, ends[0].Address)
		if !known || len(at) == 0 || p.MAC == (world.MAC{}) || at[0] == ends[0].Address {
			continue
		}
		said[at[0]]++
		out = append(out, far{index, p.MAC, at[0]})
	}
	kept := out[:0]
	for _, f := range out {
		if said[f.at] == 1 {
			kept = append(kept, f)
		}
	}
	return kept
}

// addTunnel adds the device and what leads into it.
func addTunnel(w *world.World, fars []far, p *datapath.Part) {
	p.Links = append(p.Links, &link.Link{
		Name: datapath.EgressLink, MTU: w.TunnelMTU(), MAC: w.Node.MAC, Addresses: []netip.Prefix{own4},
		VXLAN:               &link.VXLAN{VNI: datapath.EgressVNI, Port: datapath.EgressPort, Local: w.Ends()[0].Address, GBP: true},
		NoTXChecksumOffload: w.Config.DisableTXChecksumOffload,
	})
	set(p, datapath.ReversePathFilter(datapath.EgressLink), datapath.LooseReversePath) // answers of the outside come by it
	for _, f := range nft.Families {
		p.Neighbours = append(p.Neighbours, neigh.Neighbour{Link: datapath.EgressLink, Addr: nowhere[f], MAC: nowhereMAC})
		p.Routes = append(p.Routes, route.Route{Dst: all[f], Via: nowhere[f], Link: datapath.EgressLink, OnLink: true, Table: datapath.EgressTable})
		p.Rules = append(p.Rules, route.Rule{Priority: datapath.EgressPriority, From: all[f],
			Mark: datapath.EgressSteerMark, Mask: datapath.EgressSteerMark, Table: datapath.EgressTable})
	}
	var peers []nft.Element
	for _, f := range fars {
		p.Neighbours = append(p.Neighbours, neigh.Neighbour{Link: datapath.EgressLink, Addr: f.at, MAC: f.mac, Forward: true})
		peers = append(peers, nft.Element{Key: nft.Number(uint32(f.index) << nodeShift), Data: nft.Ether(f.mac)})
	}
	p.Tables = append(p.Tables, &nft.Table{Name: datapath.EgressLinkRules, Family: nft.NetDev,
		Sets: []*nft.Set{{Name: "peers", Type: nft.MarkType, Data: nft.EtherAddr, Elements: nft.Sorted(peers)}},
		Chains: []*nft.Chain{{Name: "leaving", Type: nft.Filter, Hook: nft.Egress, Device: datapath.EgressLink, Rules: []nft.Rule{
			// The tunnel's own packet must not be steered: only the number stays.
			{nft.SetFrom(nft.TargetEtherDaddr, nft.IPv4, "peers", nft.FieldMarkBits(markNode)), nft.MarkAs(^uint32(markNumber), 0), nft.Accept()},
			{nft.Counter(), nft.Drop()},
		}}}})
}

// nodes is what marks call the nodes from which packets arrive.
func nodes(fars []far) *nft.Set {
	var out []nft.Element
	for _, f := range fars {
		out = append(out, nft.Element{Key: nft.Ether(f.mac), Data: nft.Number(markHere | uint32(f.index)<<nodeShift)})
	}
	return &nft.Set{Name: nodesMap, Type: nft.EtherAddr, Data: nft.MarkType, Elements: nft.Sorted(out)}
}
