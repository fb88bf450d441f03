package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// At the source, the first packet of a connection to the outside gets the connection its
// mark, behind all that translates its destination. Rules are the same whatever Egresses
// there are; pods and addresses are elements:
//
//	pods  pod → Egress, by its reference
//	one   Egress → mark, where it has one address, or none at work
//	many  Egress, bucket → mark, where it has several
//
// The packet's priority holds the reference for as long as that takes.

func podsMap(f nft.Family) string   { return "pods" + suffix(f) }
func oneMap(f nft.Family) string    { return "one" + suffix(f) }
func manyMap(f nft.Family) string   { return "many" + suffix(f) }
func insideSet(f nft.Family) string { return "inside" + suffix(f) }
func newChain(f nft.Family) string  { return "new" + suffix(f) }
func exceptSet(f nft.Family, ref uint32) string {
	return fmt.Sprintf("except%s-%d", suffix(f), ref)
}

func suffix(f nft.Family) string { return map[nft.Family]string{nft.IPv4: "4", nft.IPv6: "6"}[f] }

// addSource adds what gives connections of this node's pods their marks.
func addSource(t *nft.Table, d decision, inside []netip.Prefix) {
	for _, f := range nft.Families {
		var pods, one, many []nft.Element
		for _, u := range d.uses {
			ways := u.ways[f]
			if len(ways) == 0 && u.FallBack {
				continue
			}
			ref := nft.Number(u.ref)
			for _, p := range u.pods {
				for _, a := range p.addresses {
					if familyOf(a) == f {
						pods = append(pods, nft.Element{Key: nft.Addr(a), Data: ref})
					}
				}
			}
			switch len(ways) {
			case 0:
				one = append(one, nft.Element{Key: ref, Data: nft.Number(refusedMark)})
			case 1:
				one = append(one, nft.Element{Key: ref, Data: nft.Number(ways[0].mark)})
			default:
				for bucket, mark := range spread(ways) {
					many = append(many, nft.Element{Key: nft.Tuple(ref, nft.Number(uint32(bucket))), Data: nft.Number(mark)})
				}
			}
		}
		t.Sets = append(t.Sets,
			&nft.Set{Name: insideSet(f), Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(ofFamily(f, inside))},
			&nft.Set{Name: podsMap(f), Type: f.AddrType(), Data: nft.ClassID, Elements: nft.Sorted(uniquePods(pods))},
			&nft.Set{Name: oneMap(f), Type: nft.ClassID, Data: nft.MarkType, Elements: nft.Sorted(one)},
			&nft.Set{Name: manyMap(f), Type: nft.Concat(nft.ClassID, nft.MarkType), Data: nft.MarkType, Elements: nft.Sorted(many)})
		addNew(t, d, f)
	}
}

// uniquePods leaves out addresses that another pod has too, as one that is going may: the
// first Egress, by reference, has it.
func uniquePods(pods []nft.Element) []nft.Element {
	slices.SortStableFunc(pods, func(a, b nft.Element) int { return strings.Compare(a.Key, b.Key) })
	return slices.CompactFunc(pods, func(a, b nft.Element) bool { return a.Key == b.Key })
}

// addNew adds the chain of first packets of pods with an Egress.
func addNew(t *nft.Table, d decision, f nft.Family) {
	c := &nft.Chain{Name: newChain(f)}
	for _, u := range d.uses {
		if except := ofFamily(f, u.Except); len(except) > 0 {
			name := exceptSet(f, u.ref)
			t.Sets = append(t.Sets, &nft.Set{Name: name, Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(except)})
			c.Rules = append(c.Rules, nft.Rule{nft.Priority(u.ref), nft.DaddrIn(f, name), nft.SetPriority(0), nft.Return()})
		}
	}
	c.Rules = append(c.Rules,
		nft.Rule{nft.SetFrom(nft.TargetCTMark, f, oneMap(f), nft.FieldPriority), nft.SetPriority(0), nft.Goto("ours")},
		nft.Rule{nft.CTMarkFromHash(f, buckets, hashSeed)},
		nft.Rule{nft.SetFrom(nft.TargetCTMark, f, manyMap(f), nft.FieldPriority, nft.FieldCTMark), nft.SetPriority(0), nft.Goto("ours")},
		nft.Rule{nft.CTMarkAs(wholeMark, refusedMark)})
	t.Chains = append(t.Chains, c)
}

// hashSeed is the same on all nodes: a destination has one address wherever its pod is.
const hashSeed = datapath.RouteProtocol

// prerouting is what every packet of the node meets, and where it goes from there.
func prerouting(w *world.World) []*nft.Chain {
	first := &nft.Chain{Name: "prerouting", Type: nft.Filter, Hook: nft.Prerouting, Priority: datapath.EgressMarkPriority,
		Rules: []nft.Rule{{nft.IIFName(datapath.EgressLink), nft.Goto("arrived")}}}
	for _, cidr := range w.Node.PodCIDRs {
		seen := nft.MarkAs(datapath.EgressSeenMark, datapath.EgressSeenMark)
		first.Rules = append(first.Rules, nft.Rule{nft.Saddr(cidr), seen}, nft.Rule{nft.Daddr(cidr), seen})
	}
	first.Rules = append(first.Rules, nft.Rule{nft.Not(nft.CTMark(markOurs, 0)), nft.Goto("ours")})
	for _, f := range nft.Families {
		first.Rules = append(first.Rules, nft.Rule{nft.CTState(nft.New), nft.DaddrNotIn(f, insideSet(f)),
			nft.SetFrom(nft.TargetPriority, f, podsMap(f), nft.FieldSaddr), nft.Goto(newChain(f))})
	}
	const both = datapath.EgressSteerMark | datapath.EgressSeenMark
	steer := nft.MarkAs(both, both)
	ours := &nft.Chain{Name: "ours", Rules: []nft.Rule{
		{nft.CTDirection(nft.Original), nft.CTMark(markAway, markAway), steer},
		{nft.CTDirection(nft.Reply), nft.CTMark(markHere, markHere), nft.Not(nft.CTMark(markNode, 0)), steer},
	}}
	return []*nft.Chain{first, ours}
}

func ofFamily(f nft.Family, ps []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range ps {
		if familyOf(p.Addr()) == f {
			out = append(out, p)
		}
	}
	return out
}
