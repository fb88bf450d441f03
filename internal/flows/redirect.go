// Package flows has connections that conntrack knows follow the rules: those that began
// before the rules were there, or lead where these do not lead any more, are forgotten, and
// begin anew.
package flows

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// A Redirector forgets connections to UDP ports of the node that lead where these do
// not lead any more: to a pod that is gone, or past one that has come. A connection
// of UDP lasts as long as somebody sends, and one that is known to conntrack is
// never translated anew.
//
// The connection table may be long, so that it is looked through beside the turns,
// and for the ports that changed.
type Redirector struct {
	// Forget is that of the connection table.
	Forget func(*conntrack.Table, conntrack.Filter, func(*conntrack.Entry) bool) (int, error)
	log    *slog.Logger

	mu      sync.Mutex
	made    leadsOf                   // what lead was made of
	lead    map[feature.Lead]bool     // where the ports lead; never changed once made
	served  map[world.ServedPort]bool // of the node's addresses, where they lead nobody; port 0: all
	world   *world.World              // in which they do
	changed map[feature.Lead]bool     // came or went, and was not looked for in the connection table yet
	works   bool                      // somebody looks through the table
}

// NewRedirector returns one that knows of no ports.
func NewRedirector(log *slog.Logger) *Redirector {
	return &Redirector{log: log, Forget: (*conntrack.Table).Forget, changed: map[feature.Lead]bool{}}
}

// Follow has connections follow what the results of features lead. The calling thread is
// in the node's namespace.
func (r *Redirector) Follow(w *world.World, results map[string]*feature.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if made := leadsMadeOf(w, results); !r.made.same(made) {
		lead, served := leads(results), servedPorts(w)
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
		r.made, r.lead, r.served = made, lead, served
	}
	r.world = w
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
func (r *Redirector) work(table *conntrack.Table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.changed) > 0 {
		changed, lead, w := r.changed, r.lead, r.world
		r.changed = map[feature.Lead]bool{}
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

func (r *Redirector) failed(err error) {
	r.log.Warn("connections to UDP ports of the node may still be DNATed to the previous pods", "error", err)
}

// mostLooks is for how many ports of one family the kernel is asked one by one: it
// goes through all of its table each time.
const mostLooks = 8

// cut forgets the connections that the changed flows took, or should take.
func (r *Redirector) cut(table *conntrack.Table, changed, lead map[feature.Lead]bool, w *world.World) error {
	gone, come, ports := map[uint16][]feature.Lead{}, map[uint16][]feature.Lead{}, map[byte]map[uint16]bool{unix.AF_INET: {}, unix.AF_INET6: {}}
	for f := range changed {
		to := gone
		if lead[f] {
			to = come
		}
		to[f.Port.Port] = append(to[f.Port.Port], f)
		family := byte(unix.AF_INET)
		if f.To.Addr().Is6() {
			family = unix.AF_INET6
		}
		ports[family][f.Port.Port] = true
	}
	services := w.OfServices()
	stale := func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		return slices.ContainsFunc(gone[to.Port()], func(f feature.Lead) bool { return f.To == e.Reply.Source }) ||
			slices.ContainsFunc(come[to.Port()], func(f feature.Lead) bool {
				if !f.Takes(to) || !w.HasAddress(to.Addr()) {
					return false
				}
				_, serviced := services.Of(unix.IPPROTO_UDP, to)
				return (f.To == e.Reply.Source) == serviced
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
			_, err := r.Forget(table, f, stale)
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// leadsOf is what leads, and what Services have, are made of: while that stays they do.
type leadsOf struct {
	results  []*feature.Result
	kernel   *world.Kernel
	services *world.Sorted[world.Service]
}

func leadsMadeOf(w *world.World, results map[string]*feature.Result) leadsOf {
	out := leadsOf{kernel: w.Kernel, services: w.Services}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if r := results[name]; len(r.Leads) > 0 {
			out.results = append(out.results, r)
		}
	}
	return out
}

func (l leadsOf) same(m leadsOf) bool {
	return l.kernel == m.kernel && l.services == m.services && slices.Equal(l.results, m.results)
}

// servedPorts are what Services have of the addresses that the node has.
func servedPorts(w *world.World) map[world.ServedPort]bool {
	out := map[world.ServedPort]bool{}
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

// leads are those of all features.
func leads(results map[string]*feature.Result) map[feature.Lead]bool {
	out := map[feature.Lead]bool{}
	for _, r := range results {
		for _, l := range r.Leads {
			out[l] = true
		}
	}
	return out
}
