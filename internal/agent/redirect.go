package agent

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

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

// A redirector forgets connections to UDP ports of the node that lead where these do
// not lead any more: to a pod that is gone, or past one that has come. A connection
// of UDP lasts as long as somebody sends, and one that is known to conntrack is
// never translated anew.
//
// The connection table may be long, so that it is looked through beside the turns,
// and for the ports that changed.
type redirector struct {
	log    *slog.Logger
	forget func(*conntrack.Table, conntrack.Filter, func(*conntrack.Entry) bool) (int, error)

	mu      sync.Mutex
	reads   any                       // of the world, what lead was made of
	lead    map[flow]bool             // where the ports lead; never changed once made
	served  map[world.ServedPort]bool // of the node's addresses, where they lead nobody; port 0: all
	world   *world.World              // in which they do
	changed map[flow]bool             // came or went, and was not looked for in the connection table yet
	works   bool                      // somebody looks through the table
}

func newRedirector(log *slog.Logger) *redirector {
	return &redirector{log: log, forget: (*conntrack.Table).Forget, changed: map[flow]bool{}}
}

// follow has connections follow what s leads. The calling thread is in the node's
// namespace.
func (r *redirector) follow(s *Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if reads := readsFlows(s); r.reads != reads {
		lead, served := flows(s), servedPorts(s.World)
		others := !maps.Equal(r.served, served) // come to each flow, or go
		for f := range lead {
			if others || !r.lead[f] {
				r.changed[f] = true
			}
		}
		for f := range r.lead {
			if !lead[f] {
				r.changed[f] = true
			}
		}
		r.reads, r.lead, r.served = reads, lead, served
	}
	r.world = s.World
	if len(r.changed) == 0 || r.works {
		return
	}
	table, err := conntrack.Open()
	if err != nil {
		r.failed(err)
		return
	}
	r.works = true
	go r.work(table)
}

// work looks through the table until nothing has changed since. What fails is for the
// next turn.
func (r *redirector) work(table *conntrack.Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.changed) > 0 {
		changed, lead, w := r.changed, r.lead, r.world
		r.changed = map[flow]bool{}
		r.mu.Unlock()
		err := r.cut(table, changed, lead, w)
		r.mu.Lock()
		if err != nil {
			maps.Copy(r.changed, changed)
			r.failed(err)
			break
		}
	}
	r.works = false
	_ = table.Close() // nothing was written
}

func (r *redirector) failed(err error) {
	r.log.Warn("connections to UDP ports of the node may lead where these led before", "error", err)
}

// mostLooks is for how many ports of one family the kernel is asked one by one: it
// goes through all of its table each time.
const mostLooks = 8

// cut forgets the connections that the changed flows took, or should take.
func (r *redirector) cut(table *conntrack.Table, changed, lead map[flow]bool, w *world.World) error {
	gone, come, ports := map[uint16][]flow{}, map[uint16][]flow{}, map[byte]map[uint16]bool{unix.AF_INET: {}, unix.AF_INET6: {}}
	for f := range changed {
		to := gone
		if lead[f] {
			to = come
		}
		to[f.port.Port] = append(to[f.port.Port], f)
		family := byte(unix.AF_INET)
		if f.to.Addr().Is6() {
			family = unix.AF_INET6
		}
		ports[family][f.port.Port] = true
	}
	services := w.OfServices()
	stale := func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		return slices.ContainsFunc(gone[to.Port()], func(f flow) bool { return f.to == e.Reply.Source }) ||
			slices.ContainsFunc(come[to.Port()], func(f flow) bool {
				if !f.takes(to) || !w.HasAddress(to.Addr()) {
					return false
				}
				_, serviced := services.Of(unix.IPPROTO_UDP, to)
				return (f.to == e.Reply.Source) == serviced
			})
	}
	var failed error
	for family, of := range ports {
		f := conntrack.Filter{Family: family, Protocol: unix.IPPROTO_UDP}
		if len(of) > mostLooks {
			of = map[uint16]bool{0: true} // all
		}
		for port := range of {
			f.Original.Destination = netip.AddrPortFrom(netip.Addr{}, port)
			_, err := r.forget(table, f, stale)
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// takes reports whether packets to a local address go by f.
func (f flow) takes(to netip.AddrPort) bool {
	return f.port.Port == to.Port() && f.to.Addr().Is4() == to.Addr().Is4() && (f.port.Anywhere() || f.port.Address == to.Addr())
}

// readsFlows is what flows are made of: while it stays they do.
func readsFlows(s *Snapshot) any {
	w := s.World
	if w == nil || w.Node == nil {
		return nil
	}
	return struct {
		config   *world.Config
		ports    any
		given    *world.NodePorts
		pods     *world.Sorted[world.Pod]
		services *world.Sorted[world.Service]
	}{w.Config, hostport.Feature.Reads(w), s.Rendered.Allocations.NodePorts, w.LocalPods, w.Services}
}

// servedPorts are what Services have of the addresses that the node has.
func servedPorts(w *world.World) map[world.ServedPort]bool {
	out := map[world.ServedPort]bool{}
	if w == nil || w.Node == nil {
		return out
	}
	services := w.OfServices()
	for _, i := range w.Kernel.Interfaces {
		for _, p := range i.Addresses {
			if _, whole := services.Addresses[p.Addr()]; whole {
				out[world.ServedPort{Address: p.Addr()}] = true
			}
		}
	}
	for p := range services.Ports {
		out[p] = true
	}
	return out
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
