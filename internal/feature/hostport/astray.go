package hostport

import (
	"slices"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/world"
)

// astray are connections to host ports that do not lead to the pod.
func astray(w *world.World) func(*conntrack.Entry) bool {
	of := map[world.Port][]Port{}
	for _, p := range Ports(w) {
		for _, number := range p.Ports() {
			of[number] = append(of[number], p)
		}
	}
	return func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		port := world.Port{IPv6: to.Addr().Is6(), Protocol: e.Protocol, Number: to.Port()}
		return e.Reply.Source == to && slices.ContainsFunc(of[port], func(p Port) bool { return p.Anywhere() || p.Address == to.Addr() }) &&
			w.HasAddress(to.Addr())
	}
}
