package kernel

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A waysNode is a node with its addresses on the loopback and two uplinks, as with BGP to
// the host.
type waysNode struct {
	*netnstest.Host
	t *testing.T
	o Observer
	w *world.World
}

func node(name string, addresses ...string) *world.Node {
	n := &world.Node{Name: name}
	for _, a := range addresses {
		n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
	}
	return n
}

func newWaysNode(t *testing.T) *waysNode {
	t.Helper()
	h, far := netnstest.New(t), netnstest.New(t)
	for _, name := range []string{"eth0", "eth1"} {
		netnstest.Wire(h, name, far, name)
		h.Run("ip", "link", "set", name, "mtu", "1400")
	}
	own := node("n1", "192.0.2.1", "2001:db8::1")
	lo := world.Interface{Name: "lo", MTU: 65536}
	for _, a := range own.Addresses {
		lo.Addresses = append(lo.Addresses, netip.PrefixFrom(a, a.BitLen()))
		h.Address("lo", netip.PrefixFrom(a, a.BitLen()).String())
	}
	return &waysNode{Host: h, t: t, w: &world.World{
		Node: own, Peers: &world.Peers{Nodes: []*world.Node{node("near", "192.0.2.2", "2001:db8::2")}},
		Config: &world.Config{Overlay: world.Overlay{Mode: world.VXLAN}}, Kernel: &world.Kernel{Interfaces: []world.Interface{lo}},
	}}
}

// sees what is known of the ways now, and what the tunnel gets.
func (n *waysNode) sees(when string, tunnel int, want world.Underlay) {
	n.t.Helper()
	n.Do(func() error {
		got, err := n.o.Underlay(n.w)
		if err != nil {
			return err
		}
		again, err := n.o.Underlay(n.w)
		if *got != want || again != got {
			n.t.Errorf("%s: %+v, then another: %v; want %+v", when, *got, again != got, want)
		}
		n.w.Underlay = got
		if mtu := n.w.TunnelMTU(); mtu != tunnel {
			n.t.Errorf("%s: the tunnel has %d, want %d", when, mtu, tunnel)
		}
		return err
	})
}

// by has the node reach others by both uplinks.
func (n *waysNode) by(uplinks ...string) {
	args := []string{"route", "add", "192.0.2.0/24"}
	for _, link := range uplinks {
		args = append(args, "nexthop", "via", "inet6", "fe80::1", "dev", link)
	}
	n.Run("ip", args...)
}

// The ways to peers follow routes, next hops and what routes themselves say.
func TestWaysFollowTheRoutes(t *testing.T) {
	t.Parallel()
	h := newWaysNode(t)
	check, w := h.sees, h.w
	check("without a route", 1450, world.Underlay{})
	h.by("eth0", "eth1")
	check("by uplinks of 1400", 1350, world.Underlay{MTU4: 1400})
	h.Run("ip", "link", "set", "eth1", "mtu", "1380")
	check("by the smaller one of both", 1330, world.Underlay{MTU4: 1380})
	w.Peers = &world.Peers{Nodes: append(w.Peers.Nodes, node("distant", "192.0.2.3"))}
	h.Run("ip", "route", "add", "192.0.2.3/32", "via", "inet6", "fe80::1", "dev", "eth0", "mtu", "1300")
	check("by a route that says less", 1250, world.Underlay{MTU4: 1300})
	h.Run("ip", "route", "del", "192.0.2.3/32")
	h.Run("ip", "route", "del", "192.0.2.0/24")
	check("while the neighbours are away", 1250, world.Underlay{MTU4: 1300})
	h.Run("ip", "link", "set", "eth1", "mtu", "1500")
	h.Run("ip", "link", "set", "eth0", "mtu", "1500")
	h.by("eth0", "eth1")
	check("by larger ones", 1450, world.Underlay{MTU4: 1500})
	h.Run("ip", "rule", "add", "from", "192.0.2.1", "lookup", "77")
	h.Run("ip", "route", "add", "192.0.2.0/24", "dev", "eth0", "mtu", "1390", "table", "77")
	check("by a rule for its source", 1340, world.Underlay{MTU4: 1390})
	w.Node = node("n1", "2001:db8::1", "192.0.2.1")
	h.Run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
	h.Sysctl("net/ipv6/conf/eth0/mtu", "1420")
	check("in IPv6, where a router advertised less", 1350, world.Underlay{MTU6: 1420})
	w.Config = &world.Config{Overlay: world.Overlay{Mode: world.Direct}}
	check("of both families", 1350, world.Underlay{MTU4: 1390, MTU6: 1420})
	if mtu := w.PodMTU(); mtu != 1390 {
		t.Errorf("direct: pods have %d", mtu)
	}
	w.Config = &world.Config{Overlay: world.Overlay{Mode: world.None}}
	h.Do(func() error {
		if u, err := h.o.Underlay(w); u != nil || err != nil {
			t.Errorf("without an overlay: %+v, %v", u, err)
		}
		return nil
	})
}

// An agent that begins while no way is there leaves the tunnel no more than it has.
func TestAnMTUIsNotRaisedByNotSeeing(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	h.Run("ip", "link", "add", "fl-vxlan", "mtu", "1350", "type", "vxlan", "id", "1", "dstport", "4789")
	w := &world.World{
		Node: node("n1", "192.0.2.1"), Peers: &world.Peers{Nodes: []*world.Node{node("n2", "192.0.2.2")}},
		Config: &world.Config{Overlay: world.Overlay{Mode: world.VXLAN}}, Kernel: &world.Kernel{},
	}
	h.Do(func() (err error) {
		w.Underlay, err = (&Observer{}).Underlay(w)
		return err
	})
	if mtu := w.TunnelMTU(); mtu != 1350 {
		t.Errorf("the tunnel of 1350 gets %d", mtu)
	}
}

// What it costs to look at the ways while nothing is announced does not grow with the
// number of peers, whether or not they can be reached.
func TestWaysAreAskedForOnce(t *testing.T) {
	const peers, most = 300, 100 // most: allocations, a fraction of one for each peer
	h := newWaysNode(t)
	h.Run("ip", "link", "add", "fl-vxlan", "mtu", "1350", "type", "vxlan", "id", "1", "dstport", "4789")
	for i := range peers {
		h.w.Peers.Nodes = append(h.w.Peers.Nodes, node(fmt.Sprint("n", i), fmt.Sprintf("198.51.100.%d", 1+i%250), fmt.Sprintf("2001:db8:1::%x", i+1)))
	}
	watching(t, h.Host, &h.o)
	cost := func(when string) {
		t.Helper()
		var allocations float64
		h.Do(func() error {
			_, err := h.o.Underlay(h.w)
			if err != nil {
				return err
			}
			allocations = testing.AllocsPerRun(5, func() { _, err = h.o.Underlay(h.w) })
			return err
		})
		if allocations > most {
			t.Errorf("%d peers %s: %.0f allocations at another look", peers, when, allocations)
		}
	}
	cost("that cannot be reached")
	h.Run("ip", "route", "add", "default", "dev", "eth0")
	for deadline := time.Now().Add(10 * time.Second); !h.o.underlay.stale.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody hears of the route")
		}
	}
	cost("that can")
}
