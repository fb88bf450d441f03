// Package pod gives every pod of this node its wire: a veth pair whose one end
// is the pod's interface, a route and a permanent neighbour to it.
//
// There is no bridge. The node routes between wires, so that pods of one node
// and pods of different nodes meet the same rules. A pod's gateway is a
// link-local address that stands on no interface: a permanent neighbour in the
// pod leads to the node's end of the wire. What no pod holds of the node's pod
// CIDRs is unreachable, rather than sent out by the default route.
package pod

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the pods' wires.
var Feature = feature.Feature{
	Name:       "pod",
	PodNetwork: true,
	Render:     func() feature.Render { return feature.Memo(readsOf, render) },
	Checks:     []doctor.Check{addressPools, routerAdvertisements},
}

// reads is all that render looks at.
type reads struct {
	node        *world.Node
	attachments *world.Attachments
	kernel      *world.Kernel
	mtu         int
	localnet    bool
}

func readsOf(w *world.World) reads {
	return reads{w.Node, w.Attachments, w.Kernel, w.PodMTU(), localnet(w)}
}

func render(w *world.World) feature.Result {
	p := datapath.Part{Settings: advertisements(w)} // before forwarding takes away what they told
	var problems []world.Problem
	for _, like := range families(w) {
		p.Settings = append(p.Settings, forwarding(like))
		p.Settings = append(p.Settings, forwardingOf(w, like)...)
	}
	for _, cidr := range w.Node.PodCIDRs {
		p.Routes = append(p.Routes, route.Route{Dst: cidr})
	}
	for _, a := range w.Attachments.List {
		if reason, missed := w.Kernel.Misses(a); missed {
			problems = append(problems, unseen(w.Node, a, reason))
		}
		switch {
		case a.Chained:
		case !w.Kernel.Sees(a):
			p.Keep = append(p.Keep, feature.Wire(a))
		default:
			feature.AddWire(&p, w.PodMTU(), a).RouteLocalnet = len(a.HostPorts) > 0 && localnet(w)
			bound(&p, a, w.PodMTU())
		}
	}
	return feature.Result{Part: p, Problems: problems}
}

// families are an address of each family that the node forwards: those of its pod
// CIDRs, and those that pods still have.
func families(w *world.World) (out []netip.Addr) {
	add := func(a netip.Addr) {
		if !slices.ContainsFunc(out, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			out = append(out, a)
		}
	}
	for _, cidr := range w.Node.PodCIDRs {
		add(cidr.Addr())
	}
	for _, a := range w.Attachments.List {
		for _, addr := range a.Addresses {
			if len(out) == 2 {
				return out
			}
			add(addr)
		}
	}
	return out
}

// unseen is the problem of a pod whose network namespace cannot be seen. Its wire
// can be neither made nor changed, and whatever there is stays.
func unseen(n *world.Node, a *world.Attachment, reason string) world.Problem {
	if a.Wire != "" {
		return world.Problem{Object: "Node " + n.Name, Field: "attachment of container " + a.ContainerID,
			Reason: fmt.Sprintf("its record is lost; its veth pair %s and its addresses %v stay as they are", a.Wire, a.Addresses),
			Hint:   "its host ports and bandwidth limits are unknown: delete the pod that has these addresses, so that it is recreated"}
	}
	return world.Problem{Object: "Pod " + a.Namespace + "/" + a.Pod, Field: "network namespace", Reason: "cannot be seen: " + reason,
		Hint: "its network stays as it is; if the pod is gone, let the runtime remove its sandbox"}
}

// localnet is whether connections of the node's loopback may leave by the wires of
// pods with host ports. It is taken back when these are switched off, since what
// keeps pods out of that loopback then goes.
func localnet(w *world.World) bool { return w.Config.Enabled("hostport") && w.Config.Enabled("guard") }

// forwardingOf keeps the interfaces by which the node reaches the outside forwarding
// IPv4, whatever others set for each: what answers pods comes in by them. IPv6 is
// forwarded by all interfaces or by none (Linux net/ipv6/ip6_output.c, ip6_forward).
func forwardingOf(w *world.World, addr netip.Addr) (out []sysctl.Setting) {
	for _, e := range w.Kernel.Exits {
		if addr.Is4() && e.Address.Is4() {
			out = append(out, sysctl.Setting{Key: "net/ipv4/conf/" + e.Interface + "/forwarding", Value: "1"})
		}
	}
	return out
}

func forwarding(addr netip.Addr) sysctl.Setting {
	if addr.Is6() {
		return sysctl.Setting{Key: datapath.Forwarding6, Value: "1"}
	}
	return sysctl.Setting{Key: "net/ipv4/ip_forward", Value: "1"}
}
