// Package firewall finds out whether the packet filters of others on this node drop
// what pods send and receive.
//
// It reads the base chains of the forward hook in nftables, iptables-nft(8) being
// one of those who write them, and the filter tables of iptables-legacy, and follows
// a few flows through them: the first packet of a TCP connection between two pods,
// from a pod to the outside, and from the outside to a pod. Of each rule it can say
// that such a packet matches, that it does not, or neither. A drop is one only where
// nothing on the way may accept the packet: what cannot be told is no finding.
//
// Others' rules may be many. Only chains that a flow gets to are read, and of those
// no more than a bound.
package firewall

import (
	"errors"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nfnl"
	"fairlead.dev/fairlead/internal/world"
)

// A Chain is one of nftables, by the number of its family.
type Chain struct {
	Family byte
	Table  string
	Name   string
}

// Seen is what a look came to.
type Seen struct {
	Drops []world.ForwardDrop
	// Watched are the chains that were looked into: what changes elsewhere, base
	// chains that come aside, changes nothing.
	Watched map[Chain]bool
}

// mostDrops bounds what is told.
const mostDrops = 32

// A look is one on its way.
type look struct {
	Seen
	watched map[Chain]bool
	flows   map[bool][]wayOf // by whether they are of IPv6
}

// A wayOf is a flow that stands for one way that packets of pods take.
type wayOf struct {
	way  world.Way
	flow flow
}

// NFTables looks into nftables. The exits are the interfaces to the outside.
func NFTables(exits []world.Exit) (Seen, error) {
	for range 5 {
		l := newLook(exits)
		err := l.nftables()
		if !errors.Is(err, nfnl.ErrChanged) {
			return l.Seen, err
		}
	}
	return Seen{}, nfnl.ErrChanged
}

// Legacy looks into the tables of iptables-legacy.
func Legacy(exits []world.Exit) ([]world.ForwardDrop, error) {
	l := newLook(exits)
	err := l.legacy()
	return l.Drops, err
}

func newLook(exits []world.Exit) *look {
	l := &look{watched: map[Chain]bool{}, flows: map[bool][]wayOf{}}
	l.Watched = l.watched
	pods := names{datapath.LinkPrefix, true}
	for _, ipv6 := range []bool{false, true} {
		var outside names
		for _, e := range exits {
			if e.Address.Is6() == ipv6 {
				outside.name = e.Interface
			}
		}
		l.flows[ipv6] = []wayOf{
			{world.BetweenPods, flow{ipv6, pods, pods}},
			{world.FromPods, flow{ipv6, pods, outside}},
			{world.ToPods, flow{ipv6, outside, pods}},
		}
	}
	return l
}

// judge notes which flows of a family a filter drops.
func (l *look) judge(filter world.Filter, ipv6 bool, outcome func(flow) outcome) {
	for _, w := range l.flows[ipv6] {
		out := outcome(w.flow)
		if out.drop && !out.accept && len(l.Drops) < mostDrops {
			l.Drops = append(l.Drops, world.ForwardDrop{Filter: filter, IPv6: ipv6, Way: w.way, By: out.by})
		}
	}
}

// base is what becomes of the flow in a base chain, whose policy takes what comes
// out at its end.
func (w *walk) base(name string, policy outcome) outcome {
	out := w.in(name, 0)
	if out.through {
		out.accept, out.drop = out.accept || policy.accept, out.drop || policy.drop
		out.by = policy.by
	}
	return out
}
