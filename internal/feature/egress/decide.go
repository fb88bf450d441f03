package egress

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// A decision is what the Egresses come to on one node.
type decision struct {
	uses    []use   // in the order of their references
	owned   []owned // by number
	reports []world.Report
}

// A use is an Egress that pods of this node have.
type use struct {
	*world.Egress
	ref  uint32 // what the rules call it by
	pods []pod
	// ways are the marks of its addresses at work, of each family that pods are to get.
	ways map[nft.Family][]way
}

// A pod is one of this node's.
type pod struct {
	world.Key
	addresses []netip.Addr
}

// A way is a mark, and the address that leads to.
type way struct {
	address netip.Addr
	mark    uint32
}

// owned is an address that this node has.
type owned struct {
	*world.Egress
	world.EgressAddress
}

// decide says which Egress each of this node's pods has, and where its packets go.
func decide(w *world.World, ix *Indices) decision {
	var d decision
	byAge := slices.SortedFunc(slices.Values(w.Egresses.List), func(a, b *world.Egress) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Name, b.Name))
	})
	pods := map[*world.Egress][]pod{}
	yields := map[*world.Egress]yield{}
	for _, p := range podsOf(w) {
		var first *world.Egress
		for _, e := range byAge {
			switch {
			case !e.Selects(p.namespace, p.labels):
			case first == nil:
				first = e
				pods[e] = append(pods[e], p.pod)
			default:
				yields[e] = yields[e].to(first, p.Key)
			}
		}
	}
	for _, e := range w.Egresses.List {
		for _, a := range e.Addresses {
			if a.Node == w.Node.Name && a.Number != 0 {
				d.owned = append(d.owned, owned{e, a})
			}
		}
		if len(pods[e]) > 0 {
			d.uses = append(d.uses, use{Egress: e, pods: pods[e], ways: waysOf(w, e, ix)})
		}
		if r, tell := degraded(w, e, pods[e], yields[e]); tell {
			d.reports = append(d.reports, r)
		}
	}
	slices.SortFunc(d.owned, func(a, b owned) int { return cmp.Compare(a.Number, b.Number) })
	refer(d.uses)
	return d
}

// refer gives each use a reference of its own: the number of one of its addresses, which no
// other has, so that one that comes or goes changes nobody else's.
func refer(uses []use) {
	unnumbered := uint32(world.LastEgressNumber)
	for i, u := range uses {
		for _, a := range u.Addresses {
			if a.Number != 0 && (uses[i].ref == 0 || uint32(a.Number) < uses[i].ref) {
				uses[i].ref = uint32(a.Number)
			}
		}
		if uses[i].ref == 0 {
			unnumbered++
			uses[i].ref = unnumbered
		}
	}
	slices.SortFunc(uses, func(a, b use) int { return cmp.Compare(a.ref, b.ref) })
}

// waysOf are the ways of e's addresses that are at work, of each family. One whose node
// cannot be reached is at work all the same: what it would lose is not sent elsewhere.
func waysOf(w *world.World, e *world.Egress, ix *Indices) map[nft.Family][]way {
	out := map[nft.Family][]way{}
	for _, a := range e.Addresses {
		if mark, known := ix.markOf(w, a); known {
			f := familyOf(a.Address)
			out[f] = append(out[f], way{a.Address, mark})
		}
	}
	return out
}

// selectable is a pod of this node with what Egresses look at.
type selectable struct {
	pod
	namespace, labels world.Labels
}

// podsOf are this node's pods with the addresses that they have here. Of a pod that is
// being added, the cluster does not know them yet. A directory need not have its namespace,
// which has no labels then.
func podsOf(w *world.World) []selectable {
	attached := map[world.Key][]netip.Addr{}
	for _, a := range w.Attachments.List {
		k := world.Key{Namespace: a.Namespace, Name: a.Pod}
		attached[k] = append(attached[k], a.Addresses...)
	}
	namespaces := map[string]world.Labels{}
	for _, n := range w.Namespaces.List {
		namespaces[n.Name] = n.Labels
	}
	var out []selectable
	for p := range w.LocalPods.List.All() {
		if p.HostNetwork {
			continue
		}
		addresses := slices.Concat(attached[p.Key], p.Addresses)
		slices.SortFunc(addresses, netip.Addr.Compare)
		out = append(out, selectable{pod{p.Key, slices.Compact(addresses)}, namespaces[p.Namespace], p.Labels})
	}
	return out
}

// A yield is pods that an Egress selects and an older one has.
type yield struct {
	older *world.Egress // of the first pod
	first world.Key
	pods  int
}

func (y yield) to(older *world.Egress, pod world.Key) yield {
	if y.pods == 0 {
		y.older, y.first = older, pod
	}
	y.pods++
	return y
}

// degraded is what this node has to say against e: nothing where it has no pod of its.
func degraded(w *world.World, e *world.Egress, pods []pod, y yield) (world.Report, bool) {
	r := world.Report{Object: "Egress " + e.Name, Type: "Degraded", Generation: e.Generation, Status: true, Severity: slog.LevelWarn}
	switch {
	case y.pods > 0:
		r.Reason = "OlderEgress"
		r.Message = fmt.Sprintf("pod %s/%s has Egress %s, which is older", y.first.Namespace, y.first.Name, y.older.Name)
		if y.pods > 1 {
			r.Message = fmt.Sprintf("%d pods have an older Egress: %s/%s has %s", y.pods, y.first.Namespace, y.first.Name, y.older.Name)
		}
		return r, true
	case len(pods) == 0:
		return r, false
	}
	var lacking []string
	for _, f := range nft.Families {
		if hasFamily(w, f) && !slices.ContainsFunc(e.Addresses, func(a world.EgressAddress) bool { return familyOf(a.Address) == f && a.Node != "" && a.Number != 0 }) {
			lacking = append(lacking, map[nft.Family]string{nft.IPv4: "IPv4", nft.IPv6: "IPv6"}[f])
		}
	}
	if len(lacking) > 0 {
		what := "is refused"
		if e.FallBack {
			what = "has the node's address"
		}
		r.Reason = "NoAddress"
		r.Message = fmt.Sprintf("no address of %s is at work: what its pods send outside by it %s", strings.Join(lacking, " and of "), what)
		return r, true
	}
	r.Status, r.Severity, r.Reason, r.Message = false, 0, "AtWork", "pods have its addresses"
	return r, true
}

// hasFamily reports whether pods of this node have addresses of f.
func hasFamily(w *world.World, f nft.Family) bool {
	return slices.ContainsFunc(w.Node.PodCIDRs, func(p netip.Prefix) bool { return familyOf(p.Addr()) == f })
}

// buckets is how many parts destinations are in where an Egress has several addresses.
const buckets = 128

// spread says which of ways each bucket gets: that which hashes highest with it, so that one
// that is lost moves its own share only (rendezvous hashing).
func spread(ways []way) []uint32 {
	out := make([]uint32, buckets)
	for b := range out {
		var best uint64
		for _, one := range ways {
			h := fnv.New64a()
			_, _ = h.Write(append(one.address.AsSlice(), byte(b))) // never fails
			// The last byte alone would decide too little of the high bits (fmix64 of MurmurHash3).
			if v := mix(h.Sum64()); v >= best {
				best, out[b] = v, one.mark
			}
		}
	}
	return out
}

func mix(v uint64) uint64 {
	v ^= v >> 33
	v *= 0xff51afd7ed558ccd
	v ^= v >> 33
	v *= 0xc4ceb9fe1a85ec53
	return v ^ v>>33
}

func familyOf(a netip.Addr) nft.Family {
	if a.Is4() {
		return nft.IPv4
	}
	return nft.IPv6
}
