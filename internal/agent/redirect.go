package agent

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature/hostport"
	"fairlead.dev/fairlead/internal/world"
)

// A flow is where the packets to a port of the node go.
type flow struct {
	port world.HostPort
	to   netip.AddrPort // of the pod
}

// redirect forgets connections to UDP ports of the node that lead where these do
// not lead any more: to a pod that is gone, or past one that has come. A connection
// of UDP lasts as long as somebody sends, and one that is known to conntrack is
// never translated anew.
func (a *Agent) redirect(s *Snapshot) {
	lead := flows(s)
	gone, come := map[uint16][]flow{}, map[uint16][]flow{} // by port
	for f := range a.led {
		if !lead[f] {
			gone[f.port.Port] = append(gone[f.port.Port], f)
		}
	}
	for f := range lead {
		if !a.led[f] {
			come[f.port.Port] = append(come[f.port.Port], f)
		}
	}
	if len(gone)+len(come) == 0 {
		return
	}
	err := forget(func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		return slices.ContainsFunc(gone[to.Port()], func(f flow) bool { return f.to == e.Reply.Source }) ||
			slices.ContainsFunc(come[to.Port()], func(f flow) bool { return f.takes(to) && f.to != e.Reply.Source && s.World.HasAddress(to.Addr()) })
	})
	if err != nil {
		a.config.Log.Warn("connections to UDP ports of the node may lead where these led before", "error", err)
		return
	}
	a.led = lead
}

func forget(stale func(*conntrack.Entry) bool) error {
	table, err := conntrack.Open()
	if err != nil {
		return err
	}
	_, err = table.Forget(conntrack.Filter{Protocol: unix.IPPROTO_UDP}, stale)
	return errors.Join(err, table.Close())
}

// takes reports whether packets to a local address go by f.
func (f flow) takes(to netip.AddrPort) bool {
	return f.port.Port == to.Port() && f.to.Addr().Is4() == to.Addr().Is4() && (f.port.Anywhere() || f.port.Address == to.Addr())
}

// flows are those of the UDP ports that lead to pods.
func flows(s *Snapshot) map[flow]bool {
	w := s.World
	out := map[flow]bool{}
	if w == nil || w.Node == nil {
		return out
	}
	addHostPorts(out, w)
	if given := s.Rendered.Allocations.NodePorts; given != nil {
		addNodePorts(out, w, given.List)
	}
	return out
}

func addHostPorts(to map[flow]bool, w *world.World) {
	if !w.Config.Enabled(hostport.Feature.Name) {
		return
	}
	for _, p := range hostport.Ports(w) {
		for _, addr := range p.Pod.Addresses {
			if p.Protocol == unix.IPPROTO_UDP {
				to[flow{p.HostPort, netip.AddrPortFrom(addr, p.PodPort)}] = true
			}
		}
	}
}

func addNodePorts(to map[flow]bool, w *world.World, list []world.NodePort) {
	for _, n := range list {
		if n.Protocol != unix.IPPROTO_UDP {
			continue
		}
		i, found := slices.BinarySearchFunc(w.LocalPods.List, n.Pod, func(p *world.Pod, k world.Key) int { return p.Compare(k) })
		if !found {
			continue
		}
		for _, addr := range w.LocalPods.List[i].Addresses {
			if addr.Is6() == n.IPv6 {
				to[flow{world.HostPort{Port: n.Number, Protocol: n.Protocol, PodPort: n.PodPort}, netip.AddrPortFrom(addr, n.PodPort)}] = true
				break
			}
		}
	}
}
