// Package egress gives chosen pods chosen source addresses outside the cluster, which
// nodes have that need not be the pods'.
//
// A connection is decided on when it begins. Its first packet gets it a mark, which says
// the number of its source address and the node that has it, and by which all of its
// packets go from then on: see marks.go. What another node translates goes there through a
// tunnel of its own, in every mode, beside other networks too; with it goes the number, so
// that the owner of an address need know no pods. Answers come back the same way.
//
// Pods of one Egress with several addresses have one of them for each destination. What
// stays inside the cluster, what an Egress excepts, replies to connections from outside and
// connections that are older than the selection are left alone. What has no address at work
// is refused, or leaves as without an Egress, as that says.
//
// Which node has an address is the controller's to say: package controller. While there
// is no Egress there is nothing of this on a node.
//
// Sources: Linux drivers/net/vxlan/vxlan_core.c (vxlan_build_gbp_hdr);
// draft-smith-vxlan-group-policy; Documentation/networking/ip-sysctl.rst (rp_filter).
package egress

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is source addresses by choice.
var Feature = feature.Feature{
	Name:     "egress",
	Needs:    world.Needs{Pods: world.NodePods, Namespaces: true, Egresses: true},
	Render:   func() feature.Render { return feature.Memo(readsOf, new(renderer).render) },
	Keeps:    []journal.Kind{keptIndices},
	Awaits:   awaits,
	Checks:   []doctor.Check{atWork},
	Views:    []view.View{{Name: "egress", New: newView}},
	Recorded: map[string]func(feature.Seen) any{"egress": func(s feature.Seen) any { return shown(s) }},
	Start:    func(feature.Host) feature.Helper { return helper() },
}

// reads is all that render looks at.
type reads struct {
	egresses   *world.Sorted[world.Egress]
	pods       *world.Pods
	namespaces *world.Sorted[world.Namespace]
	attached   *world.Attachments
	node       *world.Node
	peers      *world.Peers
	config     *world.Config
	kernel     *world.Kernel
	indices    *Indices
	ends       string
	mtu        int
}

func readsOf(w *world.World) reads {
	if none(w) {
		return reads{}
	}
	return reads{w.Egresses, w.LocalPods, w.Namespaces, w.Attachments, w.Node, w.Peers, w.Config, w.Kernel, allocated.Of(w.Allocations),
		fmt.Sprint(w.Ends()), w.TunnelMTU()}
}

// none reports whether there is nothing to do here.
func none(w *world.World) bool { return w.Egresses == nil || len(w.Egresses.List) == 0 }

// A renderer remembers what only nodes and settings make: nearly all in a large cluster.
type renderer struct {
	inside feature.Last[insideOf, []netip.Prefix]
	fars   feature.Last[farsMade, []far]
}

type insideOf struct {
	node   *world.Node
	peers  *world.Peers
	config *world.Config
}

type farsMade struct {
	peers   *world.Peers
	config  *world.Config
	indices *Indices
	ends    string
}

func (r *renderer) render(w *world.World) feature.Result {
	if none(w) {
		return feature.Result{}
	}
	before := allocated.Of(w.Allocations)
	if before == nil {
		before = &Indices{}
	}
	ix := before.with(w.Peers)
	out := feature.Result{Allocations: allocated.Only(ix)}
	d := decide(w, ix)
	out.Reports, out.Counts = d.reports, map[string]int{"egresses": len(d.uses), "addresses": len(d.owned)}
	for _, u := range d.uses {
		out.Counts["pods"] += len(u.pods)
	}
	if len(w.Ends()) == 0 {
		return out
	}
	inside := r.inside.Of(insideOf{w.Node, w.Peers, w.Config}, w.Inside)
	fars := r.fars.Of(farsMade{w.Peers, w.Config, ix, fmt.Sprint(w.Ends())}, func() []far { return farsOf(w, ix) })
	p := &out.Part
	p.Tables = append(p.Tables, table(w, d, inside, fars))
	addTunnel(w, fars, p)
	announce(w, d, p)
	addGuard(w, inside, p)
	if !w.Beside() {
		p.Settings = append(p.Settings, feature.LiberalTCP)
	}
	return out
}

func table(w *world.World, d decision, inside []netip.Prefix, fars []far) *nft.Table {
	t := &nft.Table{Name: datapath.EgressRules, Sets: []*nft.Set{nodes(fars)}}
	peers, tunnel := input(fars)
	t.Sets = append(t.Sets, peers...)
	addSource(t, d, inside)
	addOwner(t, w, d)
	t.Chains = append(t.Chains, prerouting(w)...)
	t.Chains = append(t.Chains, arrived()...)
	t.Chains = append(t.Chains, forward()...)
	t.Chains = append(t.Chains, tunnel...)
	sources := &nft.Chain{Name: "sources", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.EgressSourcePriority}
	for _, f := range nft.Families {
		// Nobody else translates here what the owner of the address will.
		sources.Rules = append(sources.Rules, nft.Rule{nft.OIFName(datapath.EgressLink), nft.CTMark(markAway, markAway), nft.KeepSource(f)})
	}
	sources.Rules = append(sources.Rules, nft.Rule{nft.CTMark(markHere, markHere), nft.Goto("translate")})
	t.Chains = append(t.Chains, sources,
		&nft.Chain{Name: "postrouting", Type: nft.Filter, Hook: nft.Postrouting, Priority: datapath.EgressWrapPriority, Rules: []nft.Rule{
			{nft.OIFName(datapath.EgressLink), nft.Goto("wrap")}}},
		&nft.Chain{Name: "wrap", Rules: []nft.Rule{{nft.MarkFromCT()}, {nft.ClampMSS()}}})
	return t
}

// awaits has a pod wait until its labels are known, while there are Egresses: its first
// packet might leave with another address.
func awaits(w *world.World, pod world.Key, uid string) string {
	if none(w) {
		return ""
	}
	known, there := w.LocalPods.List.Find(func(p *world.Pod) int { return p.Compare(pod) })
	if there && known.Local.UID == uid {
		return ""
	}
	return fmt.Sprintf("the agent has not seen Pod %s/%s yet, whose labels say whether an Egress is for it", pod.Namespace, pod.Name)
}
