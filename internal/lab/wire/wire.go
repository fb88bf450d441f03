// Package wire makes the network of a lab out of namespaces, bridges and veth
// pairs, and lets parts of it fail.
//
// Every link is born inside the lab's own namespaces: nothing of it is ever
// seen in the machine's. In the middle is the router, with a bridge for every
// underlay and for every segment of hosts; a firewall is a namespace between
// the router and its segments.
package wire

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/netns"
)

// A Net is the network of one lab.
type Net struct {
	Plan   *plan.Plan
	Prefix string // begins the name of every namespace
}

// Router is the path of the router's namespace.
func (n *Net) Router() string { return netns.Path(n.Prefix + "net") }

// Node is the path of a node's namespace.
func (n *Net) Node(name string) string { return netns.Path(n.Prefix + "node-" + name) }

// Host is the path of a host's namespace.
func (n *Net) Host(name string) string { return netns.Path(n.Prefix + "host-" + name) }

// Firewall is the path of a firewall's namespace.
func (n *Net) Firewall(name string) string { return netns.Path(n.Prefix + "fw-" + name) }

// Names of links inside the router and the firewalls. They are short because
// the kernel takes 15 bytes; nodes and hosts call their only link eth0.
const uplink = "eth0"

func underlayBridge(i int) string { return fmt.Sprintf("underlay%d", i) }
func segmentBridge(i int) string  { return fmt.Sprintf("hosts%d", i) }
func nodePort(i int) string       { return fmt.Sprintf("node%d", i+1) }
func hostPort(i int) string       { return fmt.Sprintf("host%d", i+1) }
func firewallPort(i int) string   { return fmt.Sprintf("fw%d", i+1) }

// MakeRouter makes everything that all nodes share: router, firewalls, hosts.
func (n *Net) MakeRouter() error {
	if err := n.namespace("net", forwards); err != nil {
		return err
	}
	err := netns.Do(n.Router(), func() error {
		for i, u := range n.Plan.Underlays {
			if err := addBridge(underlayBridge(i), u.Gateways); err != nil {
				return err
			}
		}
		return n.segments(plan.Direct)
	})
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	for i := range n.Plan.Firewalls {
		if err := n.makeFirewall(i); err != nil {
			return fmt.Errorf("firewall %s: %w", n.Plan.Firewalls[i].Name, err)
		}
	}
	for i := range n.Plan.Hosts {
		if err := n.makeHost(i); err != nil {
			return fmt.Errorf("host %s: %w", n.Plan.Hosts[i].Name, err)
		}
	}
	return nil
}

// segments makes, in the calling thread's namespace, the bridges of the
// segments that the given firewall is the gateway of.
func (n *Net) segments(firewall int) error {
	for i, s := range n.Plan.Segments {
		if s.Firewall != firewall {
			continue
		}
		if err := addBridge(segmentBridge(i), s.Gateways); err != nil {
			return err
		}
		if firewall == plan.Direct {
			if err := podsFrom(segmentBridge(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Net) makeHost(i int) error {
	h := n.Plan.Hosts[i]
	s := n.Plan.Segments[h.Segment]
	gateway := n.Router()
	if s.Firewall != plan.Direct {
		gateway = n.Firewall(n.Plan.Firewalls[s.Firewall].Name)
	}
	if err := n.namespace("host-"+h.Name, stays); err != nil {
		return err
	}
	err := netns.Do(gateway, func() error {
		return addPort(segmentBridge(h.Segment), pair{hostPort(i), n.Host(h.Name), mac(hostMAC, i)})
	})
	if err != nil {
		return err
	}
	return netns.Do(n.Host(h.Name), func() error { return furnish(h.Addresses, s.Network) })
}

// MakeNode makes the namespace of node i and plugs it into its underlay.
func (n *Net) MakeNode(i int) error {
	node := n.Plan.Nodes[i]
	err := n.namespace("node-"+node.Name, stays)
	if err == nil {
		err = netns.Do(n.Router(), func() error {
			if err := addPort(underlayBridge(node.Underlay), pair{nodePort(i), n.Node(node.Name), mac(nodeMAC, i)}); err != nil {
				return err
			}
			if n.Plan.Underlays[node.Underlay].SourceCheck {
				if err := checkSources(i, node); err != nil {
					return err
				}
			}
			return routePods(node)
		})
	}
	if err == nil {
		err = netns.Do(n.Node(node.Name), func() error { return furnish(node.Addresses, n.Plan.Underlays[node.Underlay].Network) })
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", node.Name, err)
	}
	return nil
}

// RemoveNode unplugs node i and deletes its namespace.
func (n *Net) RemoveNode(i int) error {
	err := netns.Do(n.Router(), func() error {
		port, err := netlink.LinkByName(nodePort(i))
		if err != nil {
			return err
		}
		return netlink.LinkDel(port)
	})
	if err != nil {
		return fmt.Errorf("unplug node %s: %w", n.Plan.Nodes[i].Name, err)
	}
	return netns.Delete(n.Node(n.Plan.Nodes[i].Name))
}

// furnish gives the calling thread's namespace its addresses and the way out.
func furnish(addresses []netip.Prefix, network plan.Network) error {
	if err := setUp(uplink, addresses); err != nil {
		return err
	}
	for _, a := range addresses {
		for _, g := range network.Gateways {
			if g.Masked() == a.Masked() {
				if err := addRoute(defaultOf(g.Addr()), g.Addr(), unix.RT_TABLE_MAIN); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// A role is what a namespace does with packets that are not for itself.
type role string

const (
	forwards role = "1"
	stays    role = "0"
)

// namespace makes an empty namespace with loopback up. What it would inherit
// from the machine is set, so that a lab is the same everywhere; addresses can
// be used at once.
func (n *Net) namespace(name string, r role) error {
	if err := netns.New(n.Prefix + name); err != nil {
		return err
	}
	return netns.Do(netns.Path(n.Prefix+name), func() error {
		for _, s := range []sysctl.Setting{
			{Key: "net/ipv4/conf/all/rp_filter", Value: "0"}, {Key: "net/ipv4/conf/default/rp_filter", Value: "0"},
			{Key: "net/ipv4/ip_forward", Value: string(r)}, {Key: "net/ipv6/conf/all/forwarding", Value: string(r)},
			{Key: "net/ipv6/conf/all/accept_dad", Value: "0"}, {Key: "net/ipv6/conf/default/accept_dad", Value: "0"},
		} {
			if err := sysctl.Apply(s); err != nil {
				return err
			}
		}
		return setUp("lo", nil)
	})
}

// A pair is a veth pair whose other end is the uplink of the namespace at
// inside.
type pair struct {
	name, inside string
	mac          net.HardwareAddr // of the uplink
}

// mac is the hardware address of machine i of a sort. A machine keeps its
// address when it is rebooted, as its neighbours expect.
func mac(sort machine, i int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0xfa, 0x1e, byte(sort), byte((i + 1) >> 8), byte(i + 1)}
}

// machine is a sort of machines.
type machine byte

const (
	nodeMAC machine = iota + 1
	hostMAC
	firewallMAC
)

// addPort makes the pair and plugs it into bridge.
func addPort(bridge string, p pair) error {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", bridge, err)
	}
	if err := addPair(p); err != nil {
		return err
	}
	port, err := netlink.LinkByName(p.name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(port, br); err != nil {
		return fmt.Errorf("plug %s into %s: %w", p.name, bridge, err)
	}
	return netlink.LinkSetUp(port)
}

func addPair(p pair) error {
	ns, err := os.Open(p.inside)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: p.name}, PeerName: uplink, PeerHardwareAddr: p.mac, PeerNamespace: netlink.NsFd(int(ns.Fd())),
	})
	if err != nil {
		return fmt.Errorf("add veth %s: %w", p.name, err)
	}
	return nil
}

func addBridge(name string, addresses []netip.Prefix) error {
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return fmt.Errorf("add bridge %s: %w", name, err)
	}
	return setUp(name, addresses)
}

func setUp(name string, addresses []netip.Prefix) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	for _, a := range addresses {
		add := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			add.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(dev, add); err != nil {
			return fmt.Errorf("address %s on %s: %w", a, name, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
