package source

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

// Pod CIDRs that remain do not overlap, and one that is taken away overlaps one
// that an earlier node keeps.
func TestNoPodCIDRIsTakenAwayForNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		var nodes []*world.Node
		for i := range 2 + random.IntN(5) {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(256))})
			p := netip.PrefixFrom(a, 24+random.IntN(7)).Masked()
			nodes = append(nodes, &world.Node{Name: fmt.Sprintf("n%d", i), PodCIDRs: []netip.Prefix{p}})
		}
		left, problems := disjoint(nodes)
		lost := 0
		for i, n := range left {
			overlaps := func(o *world.Node) bool {
				return slices.ContainsFunc(o.PodCIDRs, nodes[i].PodCIDRs[0].Overlaps)
			}
			switch {
			case len(n.PodCIDRs) == 1 && slices.ContainsFunc(left[:i], overlaps):
				t.Fatalf("%s keeps %s, which overlaps an earlier node's: %s", n.Name, n.PodCIDRs, cidrs(nodes))
			case len(n.PodCIDRs) == 0 && !slices.ContainsFunc(left[:i], overlaps):
				t.Fatalf("%s loses %s for nothing: %s", n.Name, nodes[i].PodCIDRs, cidrs(nodes))
			case len(n.PodCIDRs) == 0:
				lost++
			}
		}
		if len(problems) != lost {
			t.Fatalf("%d problems about %d lost CIDRs: %v", len(problems), lost, problems)
		}
	}
}

// Every node inside a pod CIDR is told of, and no other; likewise every address
// that an earlier node has.
func TestAddressesThatClashAreFound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		var nodes []*world.Node
		for i := range 2 + random.IntN(5) {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(256))})
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(256))}), 24+random.IntN(7)).Masked()
			nodes = append(nodes, &world.Node{Name: fmt.Sprintf("n%d", i), Addresses: []netip.Addr{a}, PodCIDRs: []netip.Prefix{p}})
		}
		nodes, _ = disjoint(nodes)
		inside, shared := 0, 0
		for i, n := range nodes {
			a := n.Addresses[0]
			if slices.ContainsFunc(nodes, func(o *world.Node) bool { return len(o.PodCIDRs) > 0 && o.PodCIDRs[0].Contains(a) }) {
				inside++
			}
			if slices.ContainsFunc(nodes[:i], func(o *world.Node) bool { return o.Addresses[0] == a }) {
				shared++
			}
		}
		if got := addressesInPods(nodes); len(got) != inside {
			t.Fatalf("%d nodes are inside pod CIDRs, told: %v; pod CIDRs %v", inside, got, nodes)
		}
		if got := sharedAddresses(nodes); len(got) != shared {
			t.Fatalf("%d nodes share an address, told: %v", shared, got)
		}
	}
}

func cidrs(nodes []*world.Node) string {
	var out string
	for _, n := range nodes {
		out += fmt.Sprintf("%s %s, ", n.Name, n.PodCIDRs[0])
	}
	return out
}
