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

// A flow is where the packets to a host port go.
type flow struct {
	port world.HostPort
	to   netip.AddrPort // of the pod
}

// redirect forgets connections to UDP host ports that lead where these do not
// lead any more: to a pod that is gone, or past one that has come. A connection
// of UDP lasts as long as somebody sends, and one that is known to conntrack is
// never translated anew.
func (a *Agent) redirect(w *world.World) {
	lead := flows(w)
	gone := slices.DeleteFunc(slices.Clone(a.led), func(f flow) bool { return slices.Contains(lead, f) })
	come := slices.DeleteFunc(slices.Clone(lead), func(f flow) bool { return slices.Contains(a.led, f) })
	if len(gone)+len(come) == 0 {
		return
	}
	err := forget(func(e *conntrack.Entry) bool {
		to := e.Original.Destination
		return slices.ContainsFunc(gone, func(f flow) bool { return f.to == e.Reply.Source && f.port.Port == to.Port() }) ||
			slices.ContainsFunc(come, func(f flow) bool { return f.takes(to) && f.to != e.Reply.Source && isLocal(w, to.Addr()) })
	})
	if err != nil {
		a.config.Log.Warn("connections to UDP host ports may lead where these led before", "error", err)
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

// flows are those of the UDP host ports in w.
func flows(w *world.World) []flow {
	var out []flow
	if w == nil || w.Node == nil || !w.Config.Enabled(hostport.Feature.Name) {
		return nil
	}
	for _, a := range w.Attachments.List {
		if a.Chained {
			continue
		}
		for _, p := range a.HostPorts {
			for _, addr := range a.Addresses {
				if p.Protocol == unix.IPPROTO_UDP {
					out = append(out, flow{p, netip.AddrPortFrom(addr, p.PodPort)})
				}
			}
		}
	}
	return out
}

// isLocal reports whether a is an address of the node.
func isLocal(w *world.World, a netip.Addr) bool {
	_, held := w.Kernel.Holding(a)
	return held || a.IsLoopback() || slices.Contains(w.Node.Gateways(), a)
}
