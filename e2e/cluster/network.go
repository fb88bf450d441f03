package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/enter"
)

// The networks inside a cluster. Only the underlay is seen outside it.
var (
	podCIDRs     = []string{"10.244.0.0/16", "fd00:10:244::/48"}
	serviceCIDRs = []string{"10.96.0.0/16", "fd00:10:96::/112"}
)

const (
	maxNodes    = 200
	maxClusters = 200
	dnsAddress  = "10.96.0.10"
	controlHost = 1   // the control plane's place in the underlay
	nodeHost    = 10  // and node i's, after this
	machineHost = 254 // and the machine's
)

// perFamily takes what the cluster's families have of a list of one for each.
func (c *Cluster) perFamily(both []string) []string {
	if c.config.Families == IPv4 {
		return both[:1]
	}
	return both
}

// address is the host's address in the underlay, one for each family, with the
// length of its network.
func (c *Cluster) address(host int) []netip.Prefix {
	both := []string{fmt.Sprintf("172.30.%d.%d/24", c.state.Index, host), fmt.Sprintf("fd00:172:30:%x::%x/64", c.state.Index, host)}
	var out []netip.Prefix
	for _, a := range c.perFamily(both) {
		out = append(out, netip.MustParsePrefix(a))
	}
	return out
}

// netnsName is the network namespace of a node, or of the control plane.
func netnsName(cluster, who string) string { return "fairlead-e2e." + cluster + "." + who }

// netns is the file of the network namespace of a node, or of the control plane.
func (c *Cluster) netns(who string) string { return enter.Netns(netnsName(c.config.Name, who)) }

// in runs f on a thread in the network namespace of a node, or of the control plane.
func (c *Cluster) in(who string, f func() error) error {
	return enter.Place{Netns: c.netns(who)}.Do(f)
}

// hostLink is the machine's end of the cable to the underlay.
func hostLink(index int) string { return fmt.Sprintf("fe2e%d", index) }

func removeHostLink(index int) error {
	link, err := netlink.LinkByName(hostLink(index))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

// claimIndex takes the first index that no cluster of the machine has, by making
// its link: of two who try at once, one fails. Networks that the machine has
// otherwise are left alone.
func (c *Cluster) claimIndex() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	taken := func(p netip.Prefix) bool {
		return slices.ContainsFunc(routes, func(r netlink.Route) bool {
			if r.Dst == nil {
				return false
			}
			ip, _ := netip.AddrFromSlice(r.Dst.IP.To4())
			ones, _ := r.Dst.Mask.Size()
			return ones > 0 && netip.PrefixFrom(ip, ones).Overlaps(p)
		})
	}
	for c.state.Index = 1; c.state.Index <= maxClusters; c.state.Index++ {
		if taken(c.address(machineHost)[0]) {
			continue
		}
		link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: hostLink(c.state.Index)}, PeerName: hostLink(c.state.Index) + "p"}
		if err := netlink.LinkAdd(link); !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return fmt.Errorf("no network of 172.30.0.0/16 is free on this machine")
}

// underlay makes the control plane's namespace, with the bridge that connects
// everybody, and the machine's cable to it, so that its programs reach the API
// server and the nodes.
func (c *Cluster) underlay() error {
	if err := enter.NewNetns(netnsName(c.config.Name, control)); err != nil {
		return err
	}
	err := c.in(control, func() error {
		if err := plainSettings(); err != nil {
			return err
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: underlayLink}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
		return setUp(underlayLink, c.address(controlHost))
	})
	if err != nil {
		return err
	}
	far, err := netlink.LinkByName(hostLink(c.state.Index) + "p")
	if err != nil {
		return err
	}
	if err := moveTo(far, c.netns(control)); err != nil {
		return err
	}
	if err := c.in(control, func() error { return plug(far.Attrs().Name) }); err != nil {
		return err
	}
	return setUp(hostLink(c.state.Index), c.address(machineHost))
}

const (
	control      = "control" // the control plane's place among the nodes
	underlayLink = "underlay"
)

// wire makes a node's network namespace with a cable to the underlay. Its
// hardware address is the same every time, as a machine's is.
func (c *Cluster) wire(n *Node) error {
	if err := enter.NewNetns(netnsName(c.config.Name, n.name)); err != nil {
		return err
	}
	if err := c.in(n.name, plainSettings); err != nil {
		return err
	}
	f, err := os.Open(c.netns(n.name))
	if err != nil {
		return err
	}
	defer f.Close()
	err = c.in(control, func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: n.name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(f.Fd())),
			PeerHardwareAddr: net.HardwareAddr{0x02, 0xe2, 0xe0, 0, byte(c.state.Index), byte(n.index)}}
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("connect %s: %w", n.name, err)
		}
		return plug(n.name)
	})
	if err != nil {
		return err
	}
	return c.in(n.name, func() error {
		if err := setUp("eth0", n.prefixes()); err != nil {
			return err
		}
		for _, gateway := range c.address(controlHost) {
			if err := netlink.RouteAdd(&netlink.Route{Gw: gateway.Addr().AsSlice()}); err != nil {
				return fmt.Errorf("route by default to %s: %w", gateway.Addr(), err)
			}
		}
		return nil
	})
}

// unwire takes a node's network away.
func (c *Cluster) unwire(n *Node) error {
	err := c.in(control, func() error {
		link, err := netlink.LinkByName(n.name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err != nil {
			return err
		}
		return netlink.LinkDel(link) // or it would stay for as long as the kernel takes to let the namespace go
	})
	return errors.Join(err, enter.DeleteNetns(netnsName(c.config.Name, n.name)))
}

// plainSettings brings the loopback up. Settings that a new namespace takes from
// the machine become the kernel's defaults, and addresses are used at once.
func plainSettings() error {
	for _, of := range []string{"all", "default"} {
		for _, setting := range []string{"ipv4/conf/" + of + "/rp_filter", "ipv6/conf/" + of + "/accept_dad"} {
			if err := os.WriteFile("/proc/sys/net/"+setting, []byte("0"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return setUp("lo", nil)
}

func setUp(name string, addresses []netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
		if a.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, address); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, a, err)
		}
	}
	return netlink.LinkSetUp(link)
}

// plug makes the link of the calling thread's namespace a port of the underlay.
func plug(name string) error {
	bridge, err := netlink.LinkByName(underlayLink)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(link, bridge); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func moveTo(link netlink.Link, space string) error {
	f, err := os.Open(space)
	if err != nil {
		return err
	}
	defer f.Close()
	return netlink.LinkSetNsFd(link, int(f.Fd()))
}
