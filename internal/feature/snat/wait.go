package snat

import (
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/world"
)

// TimeWaitKey is the setting that says for how many seconds conntrack keeps a
// connection that both sides closed, and with it its port: 120 by default.
const TimeWaitKey = "net/netfilter/nf_conntrack_tcp_timeout_time_wait"

// shortWait is that while ports run short. The last segments of a connection, sent
// again after 0.2 s and then 0.4 s later, find their way back in it, and each time it
// begins anew.
const shortWait = "1"

// Wait is how long conntrack keeps the source ports of connections that both sides
// closed.
type Wait struct {
	Before string // what it was before anybody said Short, in seconds; "": nobody did
	Short  bool   // towards some destination ports run short
}

// TimeWait is that, as the feature's helper observes it.
const TimeWait = world.Own[Wait]("snat-time-wait")

// timeWait has conntrack forget closed connections soon while ports run short. Ports
// come back within a server's TIME_WAIT then whatever anybody does: the kernel looks
// for those of closed connections that it may take over, which costs a third of all
// connections at 10,000 a second, and finds none now and then. A server takes such
// a port again at once if timestamps go on (RFC 6191), as those of pods do that read
// one clock. Else, and where ports are plenty, the longer they rest the better.
func timeWait(w *world.World) []sysctl.Setting {
	now := TimeWait.In(w)
	if now == nil {
		return nil
	}
	value := now.Before // without it nothing could be set back
	if value != "" && now.Short && w.Config.PodTCP.Timestamps == world.TimestampsMonotonic {
		value = shortWait
	}
	if value == "" {
		return nil
	}
	return []sysctl.Setting{{Key: TimeWaitKey, Value: value}}
}
