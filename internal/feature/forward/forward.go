// Package forward says when packet filters of others drop what pods send and receive,
// and, where it is asked for, keeps rules in one of them that accept it.
//
// A packet between two interfaces passes every base chain of the forward hook, and
// all of them must accept it: whatever our own tables say, a FORWARD chain whose
// policy is to drop, as Docker sets it, cuts every pod off. Only a rule in that chain
// can help. With acceptForwarding two stand at the head of the FORWARD chains of
// iptables-nft(8), one for what comes from pods and one for what goes to them; the
// chains are others', and without them there is nothing to accept.
package forward

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the way of pods' packets through others' filters.
var Feature = feature.Feature{
	Name:       "forward",
	PodNetwork: true,
	Render:     func() feature.Render { return feature.Memo(readsOf, render) },
	Checks:     []doctor.Check{forwarding},
}

// reads is all that render looks at.
type reads struct {
	node   *world.Node
	kernel *world.Kernel
	mode   world.OverlayMode
	accept bool
}

func readsOf(w *world.World) reads {
	return reads{w.Node, w.Kernel, w.Config.Overlay.Mode, w.Config.AcceptForwarding}
}

// links are the names of our links, which all pods' packets come or leave by.
const links = datapath.LinkPrefix + "*"

func render(w *world.World) feature.Result {
	var r feature.Result
	if w.Config.AcceptForwarding {
		for _, p := range datapath.AcceptPlaces {
			if !hasPods(w, p.Family == nft.IPv6) {
				continue
			}
			r.Part.Guests = append(r.Part.Guests, // each to the head: the last is the first
				nft.Guest{Place: p, Mark: datapath.AcceptMark, Oif: links},
				nft.Guest{Place: p, Mark: datapath.AcceptMark, Iif: links})
		}
	}
	var said []string
	for _, d := range droppers(w) {
		if !d.cuts(w) {
			continue
		}
		said = append(said, d.sentence()+" ("+d.cure(w)+")")
		r.Events = append(r.Events, world.Event{Object: "Node " + w.Node.Name, Type: world.Warning, Reason: "ForwardingDropped",
			Subject: d.name(), Message: d.sentence() + ": " + d.cure(w)})
	}
	report := world.Report{Object: "FairleadNode " + w.Node.Name, Type: "ForwardingAccepted"}
	switch {
	case len(said) > 0:
		report.Reason, report.Message = "Dropped", strings.Join(said, "; ")
		r.Reports = append(r.Reports, report)
	case w.Config.AcceptForwarding:
		report.Status, report.Reason = true, "Accepted"
		report.Message = "no packet filter is seen to drop pods' packets; FORWARD chains of iptables-nft accept them"
		r.Reports = append(r.Reports, report)
	}
	return r
}

// hasPods reports whether pods of the node have addresses of IPv6, or of IPv4.
func hasPods(w *world.World, ipv6 bool) bool {
	return slices.ContainsFunc(w.Node.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 })
}

// A dropper is a filter and all that it drops.
type dropper struct {
	world.Filter
	ways []world.Way
	v4   bool
	v6   bool
	by   []string
}

// droppers are the filters that drop packets of the families that pods have.
func droppers(w *world.World) []dropper {
	var out []dropper
	for _, drop := range w.Kernel.ForwardDrops {
		f := dropper{Filter: drop.Filter}
		if !hasPods(w, drop.IPv6) || w.Config.AcceptForwarding && f.accepting() && !drop.Accepting { // ours are about to come
			continue
		}
		i := slices.IndexFunc(out, func(d dropper) bool { return d.Filter == drop.Filter })
		if i < 0 {
			i = len(out)
			out = append(out, f)
		}
		d := &out[i]
		d.v4, d.v6 = d.v4 || !drop.IPv6, d.v6 || drop.IPv6
		if !slices.Contains(d.ways, drop.Way) {
			d.ways = append(d.ways, drop.Way)
		}
		if !slices.Contains(d.by, drop.By) {
			d.by = append(d.by, drop.By)
		}
	}
	return out
}

// cuts reports whether what is dropped is the pod network's own. What comes from
// outside may be meant to be dropped, unless pods of other nodes come that way.
func (d dropper) cuts(w *world.World) bool {
	return slices.Contains(d.ways, world.BetweenPods) || slices.Contains(d.ways, world.FromPods) ||
		w.Config.Overlay.Mode != world.VXLAN
}

func (d dropper) name() string {
	program := "nftables"
	switch {
	case d.Legacy:
		program = d.iptables()
	case d.accepting():
		program = "iptables-nft"
	}
	return fmt.Sprintf("chain %s of table %s %s (%s)", d.Chain, d.Family, d.Table, program)
}

func (d dropper) sentence() string { return d.name() + " " + d.does() }

// does says what is dropped, and by what.
func (d dropper) does() string {
	var family string
	switch {
	case !d.v6:
		family = "of IPv4 "
	case !d.v4:
		family = "of IPv6 "
	}
	ways := make([]string, len(d.ways))
	for i, way := range d.ways {
		ways[i] = string(way)
	}
	return fmt.Sprintf("drops packets %s%s: %s", family, strings.Join(ways, ", "), strings.Join(d.by, "; "))
}

// accepting reports whether it is one in which acceptForwarding keeps rules.
func (d dropper) accepting() bool {
	return !d.Legacy && slices.ContainsFunc(datapath.AcceptPlaces, func(p nft.Place) bool {
		return p.Table == d.Table && p.Chain == d.Chain && p.Family.Keyword() == d.Family
	})
}

func (d dropper) iptables() string {
	program := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[d.Family]
	if d.Legacy {
		program += "-legacy"
	}
	return program
}

// cure is the setting and the commands that make the filter accept.
func (d dropper) cure(w *world.World) string {
	if !d.Legacy && !d.accepting() {
		insert := fmt.Sprintf("nft insert rule %s %s %s", d.Family, d.Table, d.Chain)
		return fmt.Sprintf(`%s iifname '"%s"' accept; %s oifname '"%s"' accept`, insert, links, insert, links)
	}
	wildcard := datapath.LinkPrefix + "+"
	byHand := fmt.Sprintf("%s -I FORWARD -i %s -j ACCEPT; %s -I FORWARD -o %s -j ACCEPT", d.iptables(), wildcard, d.iptables(), wildcard)
	if d.accepting() && !w.Config.AcceptForwarding {
		return "set acceptForwarding: true in the AgentConfig, or by hand: " + byHand
	}
	return byHand
}
