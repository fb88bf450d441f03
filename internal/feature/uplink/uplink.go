// Package uplink has answers of pods leave as the node's own would, where they will have
// the node's address: to host ports, NodePortLocal and ports of Services.
//
// A node with several uplinks mostly has a rule for the address of each: what bears it as
// its source looks into a table with that uplink's gateway (`ip rule from A lookup T`). A
// pod's answer to a port of the node bears the pod's address while it is routed; A comes
// back when it leaves. So in prerouting, behind all translation, answers to what was sent
// to A get a mark, and beside each such rule stands one of ours, of the same priority, that
// leads what has the mark to T. The mark goes as soon as the way is chosen.
//
// Where other nodes are reached through the tunnel, all such answers get a mark: the
// tunnel is for what keeps a pod's address.
//
// Rules that look at more than source and destination are not followed.
package uplink

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the way of answers.
var Feature = feature.Feature{
	Name:   "uplink",
	Render: func() feature.Render { return feature.Memo(readsOf, render) },
}

// reads is all that render looks at.
type reads struct {
	node    *world.Node
	groups  string
	tunnels bool
}

func readsOf(w *world.World) reads {
	return reads{w.Node, fmt.Sprint(groupsOf(w)), tunnels(w)}
}

// A group is addresses of the node whose answers take the same ways.
type group struct {
	family    nft.Family
	rules     []world.SourceRule // in the order in which they are asked
	addresses []netip.Addr
}

// mostGroups are as many as there are marks.
const mostGroups = datapath.UplinkMask>>datapath.UplinkShift - 1

// groupsOf are those that there are, the first rules first.
func groupsOf(w *world.World) []group {
	if w.Config.Overlay.Mode == world.None {
		return nil // pods' links are another network's
	}
	var out []group
	for _, i := range w.Kernel.Interfaces {
		if i.ForServices() {
			continue
		}
		for _, p := range i.Addresses {
			a := p.Addr()
			rules := rulesOf(w.Kernel.SourceRules, a)
			if len(rules) == 0 || a.IsLoopback() || a.IsLinkLocalUnicast() {
				continue
			}
			at := slices.IndexFunc(out, func(g group) bool { return slices.Equal(g.rules, rules) })
			if at < 0 {
				at = len(out)
				out = append(out, group{family: familyOf(a), rules: rules})
			}
			out[at].addresses = append(out[at].addresses, a)
		}
	}
	return out
}

// rulesOf are those of the rules that what has source a meets.
func rulesOf(all []world.SourceRule, a netip.Addr) []world.SourceRule {
	var out []world.SourceRule
	for _, r := range all {
		if r.From.Contains(a) {
			out = append(out, r)
		}
	}
	return out
}

func render(w *world.World) feature.Result {
	var r feature.Result
	groups := groupsOf(w)
	if len(groups) == 0 && !tunnels(w) {
		return r
	}
	if len(groups) > mostGroups {
		left := groups[mostGroups].addresses[0]
		r.Problems = append(r.Problems, world.Problem{Object: "Node " + w.Node.Name, Field: "network",
			Reason: fmt.Sprintf("its addresses have more than %d different ways out by routing policy rules: replies of pods from %s and others use the main table", mostGroups, left),
			Hint:   "use fewer source rules (ip rule)"})
		groups = groups[:mostGroups]
	}
	ours := nft.IIFName(datapath.LinkPrefix + "*")
	t := &nft.Table{Name: datapath.UplinkTable}
	answers := &nft.Chain{Name: "answers", Rules: []nft.Rule{{nft.MarkAs(datapath.UplinkMask, datapath.UplinkAny)}}}
	for n, g := range groups {
		mark := uint32(n+1) << datapath.UplinkShift
		set := fmt.Sprintf("uplink%d", n+1)
		var elements []nft.Element
		for _, a := range g.addresses {
			elements = append(elements, nft.Element{Key: nft.Addr(a)})
		}
		t.Sets = append(t.Sets, &nft.Set{Name: set, Type: g.family.AddrType(), Elements: nft.Sorted(elements)})
		answers.Rules = append(answers.Rules, nft.Rule{nft.In(g.family, set, nft.FieldOriginalDaddr), nft.MarkAs(datapath.UplinkMask, mark)})
		r.Part.Rules = append(r.Part.Rules, mirrored(g, mark)...)
	}
	t.Chains = append(t.Chains,
		&nft.Chain{Name: "prerouting", Type: nft.Filter, Hook: nft.Prerouting, Priority: datapath.UplinkPriority,
			Rules: []nft.Rule{{ours, nft.CTDirection(nft.Reply), nft.CTStatus(nft.DestinationNATed), nft.Goto(answers.Name)}}},
		answers,
		&nft.Chain{Name: "forward", Type: nft.Filter, Hook: nft.Forward, Priority: datapath.UplinkForwardPriority,
			Rules: []nft.Rule{{ours, nft.Not(nft.Mark(datapath.UplinkMask, 0)), nft.MarkAs(datapath.UplinkMask, 0)}}})
	r.Part.Tables = append(r.Part.Tables, t)
	return r
}

// tunnels reports whether packets of pods to other nodes may take the tunnel: not where
// they were seen to pass as they are.
func tunnels(w *world.World) bool {
	mode := w.Config.Overlay.Mode
	return !w.PodsPass() && w.Config.HasOverlay() && (mode == world.VXLAN || mode == world.Hybrid)
}

// mirrored are the rules that do for a mark what g's do for its addresses.
func mirrored(g group, mark uint32) []route.Rule {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if g.family == nft.IPv6 {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	var out []route.Rule
	for _, r := range g.rules {
		one := route.Rule{Priority: r.Priority, From: all, To: r.To, Mark: mark, Mask: datapath.UplinkMask, Table: r.Table}
		if !slices.Contains(out, one) {
			out = append(out, one)
		}
	}
	return out
}

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}
