package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/bench/internal/traffic"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// A system is two nodes with pods, two on the first and one on the second, and a
// host outside behind the first node.
type system struct {
	name string
	goal float64 // the ratio to it that counts as keeping up; 0: for information
	ends [4]*end
}

// The ends of a system.
const (
	sender = iota // a pod of the first node
	neighbour
	remote  // a pod of the second node
	outside // no pod, and knows no way to one
)

type end struct {
	*netnstest.Host
	addresses []netip.Addr // IPv4, then IPv6
}

// path leads from the sender to another end.
func (s *system) path(to, family int) traffic.Path {
	return traffic.Path{From: s.ends[sender].Path, To: s.ends[to].Path, Address: s.ends[to].addresses[family]}
}

// homes says on which node each pod of a system is.
var homes = [...]int{sender: 0, neighbour: 0, remote: 1}

// outsideOf hangs the host outside on a system's first node.
func outsideOf(t netnstest.T, node *netnstest.Host) *end {
	e := &end{netnstest.New(t), []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:2::10")}}
	netnstest.Wire(node, "outside", e.Host, "eth0")
	node.Address("outside", "198.51.100.1/24", "2001:db8:2::1/64")
	e.Address("eth0", "198.51.100.10/24", "2001:db8:2::10/64")
	return e
}

// fairlead is the system as the agent makes it, with the default settings.
func fairlead(t netnstest.T) *system { return byAgent(t, "Fairlead", v1alpha1.AgentConfigSpec{}) }

const noGuard = "no guard"

// unguarded is the same without the guard: what the ratio to it lacks to 1 is the
// guard's price.
func unguarded(t netnstest.T) *system {
	return byAgent(t, noGuard, v1alpha1.AgentConfigSpec{Features: map[string]bool{"guard": false}})
}

func byAgent(t netnstest.T, name string, spec v1alpha1.AgentConfigSpec) *system {
	s := &system{name: name}
	nodes := []*cluster.Node{cluster.NewNode(t, 1), cluster.NewNode(t, 2)}
	cluster.Join(nodes[0], nodes[1])
	for _, n := range nodes {
		pass := true // as their agents would see
		n.Observed = []world.Part{world.PodsPass.Part(&pass)}
	}
	for i, home := range homes {
		p := nodes[home].NewPod()
		s.ends[i] = &end{p.Host, p.Addresses}
	}
	s.ends[outside] = outsideOf(t, nodes[0].Host)
	nodes[0].Apply(spec, nodes[1])
	nodes[1].Apply(spec, nodes[0])
	for _, n := range nodes {
		n.Settle()
	}
	return s
}

// byHand is the same system made without Fairlead's code, and with the rules
// given on both nodes.
func byHand(t netnstest.T, name string, goal float64, rules []*nft.Table) *system {
	s := &system{name: name, goal: goal}
	nodes := []*handmade{newHandmade(t, 0), newHandmade(t, 1)}
	netnstest.Wire(nodes[0].Host, "eth0", nodes[1].Host, "eth0")
	for i, n := range nodes {
		n.Address("eth0", fmt.Sprintf("192.0.2.%d/24", i+1), fmt.Sprintf("2001:db8:1::%d/64", i+1))
		n.Sysctl("net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1")
		n.Do(func() error { return nft.Apply(nft.Diff(nil, rules)) })
		n.Do(func() error { return n.tunnel(nodes[1-i]) })
	}
	for i, home := range homes {
		s.ends[i] = nodes[home].pod(t, i)
	}
	s.ends[outside] = outsideOf(t, nodes[0].Host)
	return s
}

// established is the least that a stateful network does: it tracks connections
// and looks once at each packet.
var established = []*nft.Table{{Name: "established", Chains: []*nft.Chain{{
	Name: "forward", Type: nft.Filter, Hook: nft.Forward, Rules: []nft.Rule{{nft.CTState(nft.Established), nft.Accept()}},
}}}}

// masquerade is the least that source NAT takes.
var masquerade = []*nft.Table{{Name: "masquerade", Chains: []*nft.Chain{{
	Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: 100, Rules: []nft.Rule{{nft.OIFName("outside"), nft.Masquerade{}}},
}}}}

// A handmade is a node of a system made by hand.
type handmade struct {
	*netnstest.Host
	number int
}

func newHandmade(t netnstest.T, number int) *handmade { return &handmade{netnstest.New(t), number} }

const (
	podMTU = 1450 // 1500 less the outer headers of VXLAN over IPv4
	vni    = 1
)

var (
	gateways  = []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fe80::1")}
	nodeWires = net.HardwareAddr{0x02, 0, 0, 0, 1, 0}
	podWires  = net.HardwareAddr{0x02, 0, 0, 0, 2, 0}
)

// addresses are those of host i in the pod networks of node n.
func addresses(n, i int) []netip.Addr {
	return []netip.Addr{
		netip.MustParseAddr(fmt.Sprintf("10.244.%d.%d", n+1, i)),
		netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::%d", n+1, i)),
	}
}

func (h *handmade) vxlanMAC() net.HardwareAddr {
	return net.HardwareAddr{0x02, 0, 0, 0, 0, byte(h.number + 1)}
}

// tunnel makes the VXLAN device and what leads to the pods of the other node.
func (h *handmade) tunnel(to *handmade) error {
	l := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: "vxlan", MTU: podMTU, HardwareAddr: h.vxlanMAC()},
		VxlanId:   vni, Port: 4789, SrcAddr: net.IPv4(192, 0, 2, byte(h.number+1)), UDPCSum: true,
	}
	steps := []func() error{
		func() error { return netlink.LinkAdd(l) },
		func() error { return netlink.LinkSetUp(l) },
		func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
				State: netlink.NUD_PERMANENT, IP: net.IPv4(192, 0, 2, byte(to.number+1)), HardwareAddr: to.vxlanMAC()})
		},
	}
	own, far := addresses(h.number, 1), addresses(to.number, 1)
	for i, bits := range []int{24, 64} {
		steps = append(steps,
			func() error { return netlink.AddrAdd(l, &netlink.Addr{IPNet: whole(own[i]), Flags: unix.IFA_F_NODAD}) },
			func() error { return permanent(l.Attrs().Index, far[i], to.vxlanMAC()) },
			func() error {
				return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: far[i].AsSlice(), Flags: int(netlink.FLAG_ONLINK),
					Dst: &net.IPNet{IP: netip.PrefixFrom(far[i], bits).Masked().Addr().AsSlice(), Mask: net.CIDRMask(bits, far[i].BitLen())}})
			})
	}
	return each(steps)
}

// pod hangs pod i on the node.
func (h *handmade) pod(t netnstest.T, i int) *end {
	p := &end{netnstest.New(t), addresses(h.number, i+2)}
	wire := fmt.Sprintf("pod%d", i)
	netnstest.Wire(h.Host, wire, p.Host, "eth0")
	h.Do(func() error {
		l, err := dress(wire, nodeWires)
		if err != nil {
			return err
		}
		for _, a := range p.addresses {
			err := each([]func() error{
				func() error { return permanent(l.Attrs().Index, a, podWires) },
				func() error {
					return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: whole(a), Scope: netlink.SCOPE_LINK})
				},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	p.Do(func() error {
		l, err := dress("eth0", podWires)
		if err != nil {
			return err
		}
		for j, a := range p.addresses {
			everywhere := &net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: make(net.IPMask, a.BitLen()/8)}
			err := each([]func() error{
				func() error { return netlink.AddrAdd(l, &netlink.Addr{IPNet: whole(a), Flags: unix.IFA_F_NODAD}) },
				func() error { return permanent(l.Attrs().Index, gateways[j], nodeWires) },
				func() error {
					return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: everywhere,
						Gw: gateways[j].AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
				},
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return p
}

// dress gives a wire its MTU and hardware address.
func dress(name string, mac net.HardwareAddr) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	return l, each([]func() error{
		func() error { return netlink.LinkSetMTU(l, podMTU) },
		func() error { return netlink.LinkSetHardwareAddr(l, mac) },
	})
}

func permanent(link int, a netip.Addr, mac net.HardwareAddr) error {
	return netlink.NeighSet(&netlink.Neigh{LinkIndex: link, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT})
}

func whole(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// each does the steps in order, up to the first that fails.
func each(steps []func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
