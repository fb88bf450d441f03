package overlay

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/world"
)

// problems are the mistakes about this node's own ends of the overlay.
func problems(w *world.World, ends []world.End) []world.Problem {
	var out []world.Problem
	report := func(field, reason, hint string) {
		out = append(out, world.Problem{Object: "Node " + w.Node.Name, Field: field, Reason: reason, Hint: hint})
	}
	if len(ends) == 0 {
		report("status.addresses", "has no InternalIP, so there is no overlay on it", "add an address of type InternalIP")
		return out
	}
	if choice := w.Config.Overlay.Interface; choice != (world.InterfaceChoice{}) && len(w.ChosenEnds()) == 0 {
		report("overlay.interface", fmt.Sprintf("no interface of the node matches %s and has an address for the overlay", choice),
			fmt.Sprintf("choose an existing one, or give it an address; %s carries the overlay meanwhile", ends[0].Address))
	}
	for _, e := range needed(w, ends) {
		switch i := e.Interface; {
		case i.Name == "":
			report("status.addresses", fmt.Sprintf("%s is on no interface of the node", e.Address),
				"give the address to an interface, or correct the Node; the overlay assumes an MTU of 1500 meanwhile")
		case i.Down:
			report("status.addresses", fmt.Sprintf("%s is on %s, which is down", e.Address, i.Name), "set the interface up: ip link set "+i.Name+" up")
		}
	}
	if w.Config.Overlay.Mode == world.Direct {
		for _, cidr := range w.Node.PodCIDRs {
			if _, ok := endOf(ends, cidr.Addr()); !ok {
				report("status.addresses", fmt.Sprintf("has no address of the family of its pods in %s, so there are no direct routes to others", cidr),
					"add an InternalIP of that family, or set overlay.mode to hybrid")
			}
		}
	}
	if left := w.LeftMTU(); w.PodMTU() > left {
		report("overlay.mtu", fmt.Sprintf("pods send up to %d bytes, and the outer interface leaves %d of a packet: larger ones are fragmented", w.PodMTU(), left),
			"raise the MTU between the nodes, or lower overlay.mtu (IPv6 needs 1280)")
	}
	return out
}

// needed are the ends without which something is not reached: that of the
// tunnel, and where there are only direct routes one for each family of pods.
func needed(w *world.World, ends []world.End) []world.End {
	var out []world.End
	for n, e := range ends {
		if n == 0 || w.Config.Overlay.Mode == world.Direct && hasFamily(w.Node.PodCIDRs, e.Address) {
			out = append(out, e)
		}
	}
	return out
}

// unreachable says why no direct route leads to a pod CIDR of p. What is wrong
// with this node is said once, and not for every peer.
func (r *renderer) unreachable(p *world.Node, cidr netip.Prefix) []world.Problem {
	e, ok := usable(r.ends, cidr.Addr())
	if !ok {
		return nil
	}
	problem := world.Problem{
		Object: "Node " + p.Name, Field: "status.addresses",
		Reason: fmt.Sprintf("has no address of the family of its pods in %s, so %s has no direct route to them", cidr, r.world.Node.Name),
		Hint:   "add an InternalIP of that family, or set overlay.mode to hybrid",
	}
	if has := r.world.PeerEnds(p, cidr.Addr()); len(has) > 0 {
		if r.own(has[0]) {
			return nil // told where the nodes are read
		}
		problem.Reason = fmt.Sprintf("%s is on no network of %s of %s, so there is no direct route to %s", has[0], e.Interface.Name, r.world.Node.Name, cidr)
		problem.Hint = "set overlay.mode to hybrid: the tunnel crosses routers"
	}
	return []world.Problem{problem}
}

// farEnd returns where the tunnel to p ends, or says why it cannot.
func (r *renderer) farEnd(p *world.Node) (netip.Addr, []world.Problem) {
	near := r.ends[0].Address
	refuse := func(format string, args ...any) (netip.Addr, []world.Problem) {
		return netip.Addr{}, []world.Problem{{
			Object: "Node " + p.Name, Field: "status.addresses", Reason: fmt.Sprintf(format, args...),
			Hint: "list the nodes' addresses with the same family first",
		}}
	}
	ends := r.world.PeerEnds(p, near)
	if len(ends) == 0 {
		return refuse("has no InternalIP of the family of %s, which carries the overlay of %s", near, r.world.Node.Name)
	}
	if r.own(ends[0]) {
		return netip.Addr{}, nil // told where the nodes are read
	}
	if far, known := r.tunnelEnd(p); known && far.Is4() != near.Is4() {
		return refuse("its tunnel address is %s and that of %s is %s: the families differ", far, r.world.Node.Name, near)
	}
	return ends[0], nil
}

// tunnelEnd returns p's own end of the tunnel, as far as it is known: where
// interfaces are chosen, only p can say.
func (r *renderer) tunnelEnd(p *world.Node) (netip.Addr, bool) {
	if len(p.Ends) > 0 {
		return p.Ends[0], true
	}
	return p.Addresses[0], r.world.Config.Overlay.Interface == (world.InterfaceChoice{})
}
