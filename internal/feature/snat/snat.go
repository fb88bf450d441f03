// Package snat gives pods that talk to the outside an address and a port that
// the outside can answer.
//
// It stands in postrouting and takes packets of this node's pods that leave the
// cluster: their source becomes the node's address. What stays inside (pods,
// nodes, and whatever the operator lists) keeps the pod's address, so that the
// far side still sees who is talking.
//
// Ports are the heart of it. By default the kernel keeps a connection's source
// port, and two pods that use one port at the same instant lose packets; so
// ports can be chosen at random. The kernel chooses from 1024 to 65535
// whatever the node's ephemeral range is, and a stateless firewall that lets
// replies in to the ephemeral range only then loses connections; so ports are
// kept inside a range. Each cure alone brings the other fault; together they
// end both. Neither ends, and random ports worsen, that a port comes back while
// the far end holds it in TIME_WAIT: that is what timestamps of one clock are for
// (package tcp). Ranges hold for TCP, UDP, SCTP and ICMP identifiers; other
// protocols have no ports and are translated all the same.
//
// Translation is for what conntrack tracks. What it calls invalid, such as the FIN
// of a connection that was idle for longer than its entry lives, would leave with
// the pod's address, and is dropped and counted instead: see leaks.go. Segments outside a window
// are not invalid (nf_conntrack_tcp_be_liberal): they are translated, and the pod's
// to judge, where the node would answer one with a reset of the connection.
//
// Sources: Linux net/netfilter/nf_nat_core.c, get_unique_tuple and
// nf_nat_l4proto_unique_tuple; RFC 6056 for the choice of ports.
package snat

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is source NAT at the node.
var Feature = feature.Feature{
	Name:     "snat",
	Render:   func() feature.Render { return feature.Memo(readsOf, new(renderer).render) },
	Astray:   astray,
	Checks:   []doctor.Check{portRanges, portBlocks, leaking},
	Start:    start,
	Keeps:    []journal.Kind{keptBlocks},
	Views:    []view.View{{Name: "snat", New: newView, Wide: printWide, Flags: whoFlags, Ask: ask}},
	Recorded: map[string]func(feature.Seen) any{"snat": recorded},
}

// reads is all that render looks at.
type reads struct {
	node   *world.Node
	peers  *world.Peers
	config *world.Config
	ports  Ports
	blocks blockReads
	wait   *Wait
	exits  string
	ways   string
}

func readsOf(w *world.World) reads {
	return reads{w.Node, w.Peers, w.Config, InForce(w), readsOfBlocks(w), TimeWait.In(w), strings.Join(exits(w), " "), fmt.Sprint(saidWays(w, nft.IPv4), saidWays(w, nft.IPv6))}
}

// A renderer remembers the insides. While nothing that they are made of changes they
// are the same values, and cost nothing to render and to compare: where pods have blocks,
// each of them renders the table anew, and in a large cluster the insides are nearly all
// of it.
type renderer struct {
	inside feature.Last[madeOf, *insideMade]
}

func (last *renderer) render(w *world.World) feature.Result {
	ports := InForce(w)
	r := feature.Result{Problems: ports.problems(w.Node.Name)}
	r.Reports = append(r.Reports, ports.report(w.Node.Name))
	t := &nft.Table{Name: datapath.SNATTable}
	inside := last.inside.Of(madeOf{w.Node, w.Peers, w.Config}, func() *insideMade { return insides(w) })
	for i, f := range nft.Families {
		t.Sets = append(t.Sets,
			&nft.Set{Name: pods(f), Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(ofFamily(f, w.Node.PodCIDRs))}, inside.sets[i])
		if beside(w) {
			t.Sets = append(t.Sets,
				&nft.Set{Name: kept(f), Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(ofFamily(f, w.Config.NonMasqueradeCIDRs))})
		}
	}
	translate := &nft.Chain{
		Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.SNATPriority, Rules: translation(w),
	}
	outside := &nft.Chain{Name: "outside", Rules: ports.masquerade(ported(nft.Families...), ports.Range)}
	t.Chains = append(t.Chains, translate, outside)
	t.Chains = append(t.Chains, ports.asSaid(w)...)
	if watched := exits(w); len(watched) > 0 {
		r.Part.Gates = gates(w, watched, inside.all)
	} else {
		t.Chains = append(t.Chains, untranslated()...)
	}
	if !beside(w) { // there, settings of the node are that network's affair
		r.Part.Settings = append(r.Part.Settings, feature.LiberalTCP)
		r.Part.Settings = append(r.Part.Settings, timeWait(w)...)
	}
	if ports.Block > 0 {
		addBlocks(w, t, &r)
	}
	r.Part.Tables = append(r.Part.Tables, t)
	return r
}

// translation says which packets get which source.
func translation(w *world.World) []nft.Rule {
	var out []nft.Rule
	for _, f := range nft.Families {
		toOutside := nft.Rule{nft.SaddrIn(f, pods(f)), nft.DaddrNotIn(f, inside(f))}
		if InForce(w).Block > 0 {
			for _, way := range blockWays(w, f) {
				out = append(out, slices.Concat(way.matches(), toOutside, nft.Rule{nft.Goto(blocks(f))}))
			}
		}
		for _, way := range saidWays(w, f) {
			n := slices.Index(said(w, f), way.Address)
			out = append(out, slices.Concat(way.matches(), toOutside, nft.Rule{nft.Goto(asChain(f, n))}))
		}
		out = append(out, slices.Concat(toOutside, nft.Rule{nft.Goto("outside")}))
		if beside(w) {
			out = append(out, nft.Rule{nft.SaddrIn(f, pods(f)), nft.DaddrIn(f, kept(f)),
				nft.Not(nft.Mark(kubeProxyMark, kubeProxyMark)), nft.KeepSource(f)})
		}
	}
	return out
}

// beside reports whether another network has the pods, which may masquerade them
// after us. What the operator lists is kept from it; what else stays inside is
// that network's own affair, and may need its masquerade to come back.
func beside(w *world.World) bool { return w.Beside() }

// kubeProxyMark is on the packets that kube-proxy will masquerade
// (--iptables-masquerade-bit, 14 by default): those of a pod that a Service led
// back to itself, among others, which would not come back otherwise.
const kubeProxyMark = 0x4000

// masquerade gives packets the address of the interface that they leave by, and
// those of the given protocols a port out of from.
func (p Ports) masquerade(protocols []byte, from world.PortRange) []nft.Rule {
	var out []nft.Rule
	for _, number := range protocols {
		out = append(out, nft.Rule{nft.L4Proto(number), nft.Masquerade{Low: from.Low, High: from.High, FullyRandom: p.Randomized}})
	}
	return append(out, nft.Rule{nft.Masquerade{}})
}

// ported are the protocols with ports, or with identifiers in place of them.
func ported(families ...nft.Family) []byte {
	out := []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}
	for _, f := range families {
		out = append(out, map[nft.Family]byte{nft.IPv4: unix.IPPROTO_ICMP, nft.IPv6: unix.IPPROTO_ICMPV6}[f])
	}
	return out
}

// Names of the sets of each family.
func pods(f nft.Family) string   { return "pods" + suffix(f) }
func inside(f nft.Family) string { return "inside" + suffix(f) }
func kept(f nft.Family) string   { return "kept" + suffix(f) }

func suffix(f nft.Family) string { return map[nft.Family]string{nft.IPv4: "4", nft.IPv6: "6"}[f] }

func ofFamily(f nft.Family, ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if is(f, p.Addr()) {
			out = append(out, p)
		}
	}
	return out
}
