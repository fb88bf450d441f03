package hostport

import (
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/world"
)

// astray are connections to host ports that do not lead to the pod.
func astray(w *world.World) func(*conntrack.Entry) bool {
	ports, services := byNumber(Ports(w)), w.OfServices()
	return func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		if e.Reply.Source != to || !taken(ports, e.Protocol, to) || !w.HasAddress(to.Addr()) {
			return false
		}
		_, serviced := services.Of(e.Protocol, to)
		return !serviced
	}
}
