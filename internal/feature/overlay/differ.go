package overlay

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// A difference is what is in force on peers, and something else here, and keeps
// packets from passing.
type difference struct{ field, here, there string }

// differences are those of this node and all its peers, and the peers of each.
type differences struct {
	order []difference
	peers map[difference][]string
}

func (d *differences) add(p *world.Node, what difference) {
	if d.peers == nil {
		d.peers = map[difference][]string{}
	}
	if d.peers[what] == nil {
		d.order = append(d.order, what)
	}
	d.peers[what] = append(d.peers[what], p.Name)
}

// compare adds what keeps packets of this node and p from passing, as far as p's
// agent has told what is in force there. Modes may differ; what goes directly
// needs no port.
func (r *renderer) compare(p *world.Node) {
	own, there := r.world.Config.Overlay, p.InForce
	switch {
	case there.Mode == "":
	case there.Mode == world.None:
		r.differs.add(p, difference{"mode", string(own.Mode), string(there.Mode)})
	case r.wraps(p, own.Mode) || r.wraps(p, there.Mode):
		if own.Port != there.Port {
			r.differs.add(p, difference{"port", fmt.Sprint(own.Port), fmt.Sprint(there.Port)})
		}
		if own.VNI != there.VNI {
			r.differs.add(p, difference{"vni", fmt.Sprint(own.VNI), fmt.Sprint(there.VNI)})
		}
	}
}

// wraps reports whether anything between this node and p goes through the tunnel
// where the sender is in the given mode.
func (r *renderer) wraps(p *world.Node, mode world.OverlayMode) bool {
	if mode != world.Hybrid {
		return mode == world.VXLAN
	}
	for _, cidr := range p.PodCIDRs {
		if via, _ := r.shared(p, cidr.Addr()); !via.IsValid() && hasFamily(r.world.Node.PodCIDRs, cidr.Addr()) {
			return true
		}
	}
	return false
}

// shared returns the address of p on a network that both nodes share, and this
// node's link to it, in the family of like; neither where there is none.
func (r *renderer) shared(p *world.Node, like netip.Addr) (netip.Addr, string) {
	e, ok := usable(r.ends, like)
	if !ok {
		return netip.Addr{}, ""
	}
	for _, a := range r.world.PeerEnds(p, like) {
		for _, network := range e.Interface.Addresses {
			if network.Contains(a) && !r.own(a) {
				return a, e.Interface.Name
			}
		}
	}
	return netip.Addr{}, ""
}

// problems tell of a peer that differs at its own object; where several differ
// alike, of all of them at this node.
func (d *differences) problems(node string) []world.Problem {
	var out []world.Problem
	for _, what := range d.order {
		hint := fmt.Sprintf("set the same overlay.%s on all nodes: in the AgentConfig default, and in no AgentConfig of a single node", what.field)
		if what.field == "mode" {
			hint = "set overlay.mode to none on all nodes or on no node"
		}
		names := d.peers[what]
		if len(names) == 1 {
			out = append(out, world.Problem{Object: "FairleadNode " + names[0], Field: "status.overlay." + what.field, Hint: hint,
				Reason: fmt.Sprintf("is %s, and %s on Node %s: packets between the two are lost", what.there, what.here, node)})
			continue
		}
		out = append(out, world.Problem{Object: "Node " + node, Field: "overlay." + what.field, Hint: hint,
			Reason: fmt.Sprintf("is %s, and %s on the Nodes %s: packets between them and this one are lost", what.here, what.there, quote.Some(names, len(names)))})
	}
	return out
}
