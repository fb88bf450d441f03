package scenario

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A stage is a node between its pods and the outside. Every interface of the
// node has a wire to the outside, which only listens and answers nothing.
type stage struct {
	t       *testing.T
	world   *world.World
	side    *side
	outside map[string]*tap // by the node's interface
	nodeMAC map[string]world.MAC
	first   string // the interface of the default routes
	pods    map[string]*podOnStage
	known   map[netip.Addr]string // addresses introduced, and the interface to each
}

type podOnStage struct {
	attachment
	out *sender
	in  *tap
}

// othersWires are what another network makes of pods: wires as good as ours.
func othersWires(w *world.World) *datapath.Part {
	out := &datapath.Part{Settings: []sysctl.Setting{{Key: "net/ipv4/ip_forward", Value: "1"}, {Key: "net/ipv6/conf/all/forwarding", Value: "1"}}}
	for _, a := range w.Attachments.List {
		if !a.Chained && w.Kernel.Sees(a) {
			feature.AddWire(out, w.PodMTU(), a)
		}
	}
	return out
}

// setStage builds the node and applies the state of every feature.
func (s *scenario) setStage(t *testing.T) *stage {
	t.Helper()
	st := &stage{
		t: t, side: newSide(t, s.pods), outside: map[string]*tap{}, nodeMAC: map[string]world.MAC{},
		pods: map[string]*podOnStage{}, known: map[netip.Addr]string{},
	}
	st.world, _ = s.build(t, s.objects, st.side.netns)
	far := netnstest.New(t)
	far.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	for _, i := range st.world.Kernel.Interfaces {
		st.wire(far, i)
	}
	state := s.render(t, all.Features, st.side.netns).State
	if st.world.Config.Overlay.Mode == world.None {
		state = append(state, othersWires(st.world))
	}
	st.side.nft(s.want("foreign.nft"))
	st.side.apply(state)
	for _, a := range s.pods {
		if !a.Dead {
			h := st.side.pods[inText(a)]
			h.Sysctl("net/ipv4/icmp_echo_ignore_all", "1", "net/ipv6/icmp/echo_ignore_all", "1")
			// Nobody listens in a pod, and a reset would end the connection before it is
			// answered.
			st.side.run(h, "table inet stage {\nchain output {\ntype filter hook output priority 0\ntcp flags & rst == rst drop\n}\n}\n", "nft", "-f", "-")
			st.pods[a.name()] = &podOnStage{attachment: a, out: openSender(t, h), in: openTap(t, h, "eth0")}
		}
	}
	st.awaitAddresses()
	for _, n := range st.world.Peers.Nodes {
		for _, a := range n.Addresses {
			if _, routed := st.world.Node.Address(a); routed {
				st.introduce(a)
			}
		}
	}
	return st
}

// awaitAddresses waits until the node takes packets for its own addresses: those
// of IPv6 count only once the kernel has noticed that their link is up.
func (st *stage) awaitAddresses() {
	st.t.Helper()
	deadline := time.Now().Add(seenWithin)
	for _, i := range st.world.Kernel.Interfaces {
		for _, a := range i.Addresses {
			st.side.node.Do(func() error {
				for time.Now().Before(deadline) {
					routes, err := netlink.RouteGet(a.Addr().AsSlice())
					if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
						return nil
					}
					time.Sleep(time.Millisecond)
				}
				return fmt.Errorf("packets for %s are not taken", a.Addr())
			})
		}
	}
}

// wire gives the node one interface, and default routes by the first.
func (st *stage) wire(far *netnstest.Host, i world.Interface) {
	st.t.Helper()
	node := st.side.node
	netnstest.Wire(node, i.Name, far, i.Name)
	node.Sysctl("net/ipv6/conf/"+i.Name+"/accept_ra", "0")
	st.outside[i.Name] = openTap(st.t, far, i.Name)
	for _, p := range i.Addresses {
		node.Address(i.Name, p.String())
	}
	node.Do(func() error {
		l, err := netlink.LinkByName(i.Name)
		if err != nil {
			return err
		}
		st.nodeMAC[i.Name] = world.MAC(l.Attrs().HardwareAddr)
		return netlink.LinkSetMTU(l, i.MTU)
	})
	if st.first != "" {
		return
	}
	st.first = i.Name
	families := map[bool]bool{}
	for _, p := range i.Addresses {
		if v4 := p.Addr().Is4(); !families[v4] {
			families[v4] = true
			st.defaultRoute(i.Name, router(p))
		}
	}
}

// router is the last address that a host can have in p's network.
func router(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8-1; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (st *stage) defaultRoute(link string, via netip.Addr) {
	st.t.Helper()
	st.side.node.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		size := len(via.AsSlice())
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: l.Attrs().Index, Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
			Dst: &net.IPNet{IP: make(net.IP, size), Mask: make(net.IPMask, size)},
		})
	})
	st.neighbour(link, via)
}

// introduce lets the node know the hardware address on the way to a, so that no
// packet waits for an answer that the outside does not give. It returns the
// interface that the way begins with.
func (st *stage) introduce(a netip.Addr) string {
	st.t.Helper()
	if link, known := st.known[a]; known {
		return link
	}
	var link string
	via := a
	st.side.node.Do(func() error {
		routes, err := netlink.RouteGet(a.AsSlice())
		if err != nil || len(routes) == 0 {
			return fmt.Errorf("route to %s: %w", a, err)
		}
		l, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return err
		}
		link = l.Attrs().Name
		if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
			via = gw.Unmap()
		}
		return nil
	})
	st.neighbour(link, via)
	st.known[a] = link
	return link
}

func (st *stage) neighbour(link string, a netip.Addr) {
	st.t.Helper()
	far, ok := st.outside[link]
	if !ok {
		return // inside the node
	}
	st.side.node.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, IP: a.AsSlice(), HardwareAddr: far.mac[:], State: unix.NUD_PERMANENT,
		})
	})
}
