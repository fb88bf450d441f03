package snat

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// blockReads is what blocks are made of besides the rest; zero where all pods
// share the range.
type blockReads struct {
	pods *world.Attachments
	last *BlockList
	ways [2]string
}

func readsOfBlocks(w *world.World) blockReads {
	if InForce(w).Block == 0 {
		return blockReads{}
	}
	r := blockReads{pods: w.Attachments, last: Allocated.Of(w.Allocations)}
	for i, f := range nft.Families {
		r.ways[i] = fmt.Sprint(wayOut(w, f), blockWays(w, f))
	}
	return r
}

// blockWays are those by which packets get the address of blocks.
func blockWays(w *world.World, f nft.Family) []way {
	by := wayOut(w, f)
	if !by.Address.IsValid() {
		return nil
	}
	var out []way
	for _, u := range waysOf(w, f) {
		if u.Address == by.Address {
			out = append(out, u)
		}
	}
	if len(out) == 0 {
		return []way{by}
	}
	return out
}

// wayOut is the way of the default route or, where there is none, of the node's
// own address. An address on no interface that leads away (on the loopback, say)
// is the node's by whichever packets leave.
func wayOut(w *world.World, f nft.Family) way {
	var out way
	for _, a := range w.Node.Addresses {
		if i, ok := w.Kernel.Holding(a); ok && is(f, a) {
			out = way{Address: a, Interface: i.Name}
			break
		}
	}
	for _, e := range w.Kernel.Exits {
		if is(f, e.Address) {
			out = way{Address: e.Address, Interface: e.Interface}
		}
	}
	if i, _ := w.Kernel.Holding(out.Address); i.Name != out.Interface || i.Name == "lo" {
		out.Interface = ""
	}
	return out
}

// addBlocks gives every pod a block of ports to itself, on the way out: a map
// leads from its address to the node's and to the block. A pod is an element.
func addBlocks(w *world.World, t *nft.Table, r *feature.Result) {
	p, allotted := InForce(w), Allot(w)
	r.Allocations = Allocated.Only(allotted.Blocks)
	r.Reports = append(r.Reports, allotted.report(w))
	r.Problems = append(r.Problems, allotted.problems(p, w.Node.Name)...)
	places, problems := placesOf(w, allotted)
	r.Problems = append(r.Problems, problems...)
	shared := p.Shared()
	if noPodKnown(w) {
		shared = p.Range
	}
	for _, f := range nft.Families {
		m := &nft.Set{Name: blocks(f), Type: f.AddrType(), Data: nft.Concat(f.AddrType(), nft.InetService), DataInterval: true}
		var all []nft.Element
		if from := wayOut(w, f).Address; from.IsValid() {
			for pod, ports := range places {
				if is(f, pod) {
					all = append(all, nft.Element{Key: nft.Addr(pod), Data: nft.Block(from, ports.Low, ports.High)})
				}
			}
		}
		m.Elements = nft.Sorted(all)
		t.Sets = append(t.Sets, m)
		chain := &nft.Chain{Name: blocks(f)}
		for _, number := range ported(f) {
			chain.Rules = append(chain.Rules, nft.Rule{nft.L4Proto(number),
				nft.SNAT{Family: f, Map: m.Name, Ports: true, FullyRandom: p.Randomized}})
		}
		rest := p.masquerade(ported(f), shared)
		if slices.ContainsFunc(blockWays(w, f), func(u way) bool { return u.Said }) {
			rest = p.as(wayOut(w, f).Address, shared)
		}
		chain.Rules = append(chain.Rules, rest...)
		t.Chains = append(t.Chains, chain)
	}
}

// noPodKnown reports whether another network has the pods and told us of none.
func noPodKnown(w *world.World) bool {
	return w.Config.Overlay.Mode == world.None && len(w.Attachments.List) == 0
}

// placesOf returns the ports of every address that a pod has. Where two pods say
// that they have one, the first keeps it.
func placesOf(w *world.World, allotted Allotted) (map[netip.Addr]world.PortRange, []world.Problem) {
	p := InForce(w)
	numbers := make(map[string]int, len(allotted.Blocks.List))
	for _, b := range allotted.Blocks.List {
		if b.Freed == 0 {
			numbers[b.Holder] = b.Number
		}
	}
	out := make(map[netip.Addr]world.PortRange, 2*len(w.Attachments.List))
	owner := map[netip.Addr]*world.Attachment{}
	var problems []world.Problem
	for _, a := range w.Attachments.List {
		ports := p.Shared()
		if n, ok := numbers[a.Key()]; ok {
			ports = p.Numbered(n)
		}
		for _, address := range a.Addresses {
			if other := owner[address]; other != nil {
				problems = append(problems, world.Problem{Object: "Pod " + a.Namespace + "/" + a.Pod,
					Reason: fmt.Sprintf("%s is the address of pod %s/%s too, which keeps its block of source ports", address, other.Namespace, other.Pod),
					Hint:   "one of them is gone, and the CNI plugin got no DEL for it: delete its file from attachments in the agent's state directory"})
				continue
			}
			out[address], owner[address] = ports, a
		}
	}
	return out, problems
}

// blocks is the name of each family's map, and of the chain that asks it.
func blocks(f nft.Family) string { return "blocks" + suffix(f) }

func is(f nft.Family, a netip.Addr) bool { return a.IsValid() && familyOf(a) == f }

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}

// BlockOf is the number of the block that a port of one of w's addresses is in,
// as seen from outside.
func BlockOf(w *world.World, port netip.AddrPort) (int, bool) {
	p := InForce(w)
	if p.Blocks() == 0 || wayOut(w, familyOf(port.Addr())).Address != port.Addr() || !p.Range.Contains(port.Port()) {
		return 0, false
	}
	number := int(port.Port()-p.Range.Low) / p.Block
	return number, number < p.Blocks()
}
