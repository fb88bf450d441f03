package nodeportlocal

import (
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/world"
)

// astray are connections to ports that were given out and do not lead to the pod.
func astray(w *world.World) func(*conntrack.Entry) bool {
	given := map[world.Port]bool{}
	if Allocated.Of(w.Allocations) != nil {
		for p := range Allocated.Of(w.Allocations).List.All() {
			given[p.Port] = true
		}
	}
	services := w.OfServices()
	return func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		if e.Reply.Source != to || !given[world.Port{IPv6: to.Addr().Is6(), Protocol: e.Protocol, Number: to.Port()}] || !w.HasAddress(to.Addr()) {
			return false
		}
		_, serviced := services.Of(e.Protocol, to)
		return !serviced
	}
}
