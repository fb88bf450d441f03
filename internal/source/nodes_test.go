package source

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

// someNodes are a few with pod CIDRs that may overlap.
func someNodes(random *rand.Rand) []meaning {
	var nodes []meaning
	for i := range 2 + random.IntN(5) {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(256))})
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(256))}), 24+random.IntN(7)).Masked()
		n := &world.Node{Name: fmt.Sprintf("n%d", i), Addresses: []netip.Addr{a}, PodCIDRs: []netip.Prefix{p}}
		nodes = append(nodes, meaning{node: n, created: int64(random.IntN(4))})
	}
	return nodes
}

// goesFirst reports whether the pod CIDR of node i goes before that of node j: the
// node's own, one in force, that of an older Node, that of the first by name.
func goesFirst(nodes []meaning, r registry, i, j int) bool {
	for _, tell := range []func(int) bool{
		func(i int) bool { return nodes[i].node.Name == r.own },
		func(i int) bool {
			return r.inForce[Claim{Node: nodes[i].node.Name, CIDR: nodes[i].node.PodCIDRs[0]}]
		},
		func(i int) bool { return nodes[i].created != 0 },
	} {
		if tell(i) != tell(j) {
			return tell(i)
		}
	}
	if nodes[i].created != nodes[j].created {
		return nodes[i].created < nodes[j].created
	}
	return i < j
}

// Pod CIDRs that remain do not overlap; one that is taken away overlaps one that
// goes before it: the node's own, one in force, that of an older Node, that of the
// first by name. Whoever is concerned is told, and what is in force stays so.
func TestNoPodCIDRIsTakenAwayForNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		nodes := someNodes(random)
		r := registry{own: "n1", inForce: map[Claim]bool{}}
		if n := nodes[random.IntN(len(nodes))].node; random.IntN(2) == 0 {
			r.inForce[Claim{Node: n.Name, CIDR: n.PodCIDRs[0]}] = true
		}
		left, _, contested, problems := disjoint(nodes, r)
		told := map[string]int{}
		for _, p := range problems {
			told[strings.TrimPrefix(p.Object, "Node ")]++
		}
		again := registry{own: r.own, inForce: map[Claim]bool{}}
		for i, n := range left {
			mine := nodes[i].node.PodCIDRs[0]
			var keepers, losers []int
			for j, o := range left {
				switch overlaps := j != i && nodes[j].node.PodCIDRs[0].Overlaps(mine); {
				case overlaps && len(o.node.PodCIDRs) > 0:
					keepers = append(keepers, j)
				case overlaps:
					losers = append(losers, j)
				}
			}
			name := n.node.Name
			if len(n.node.PodCIDRs) == 1 {
				again.inForce[Claim{Node: name, CIDR: mine}] = name != r.own
				if len(keepers) > 0 {
					t.Fatalf("%s keeps %s, and %v overlap it: %s", name, mine, keepers, cidrs(nodes))
				}
				if got := slices.Contains(contested, Claim{Node: name, CIDR: mine}); got != (len(losers) > 0 && name != r.own) {
					t.Fatalf("%s keeps %s against %v, and contested are %v", name, mine, losers, contested)
				}
				if told[name] != len(losers) {
					t.Fatalf("%s is told of %d that want its pod CIDR, not of %v: %v", name, told[name], losers, problems)
				}
				continue
			}
			if !slices.ContainsFunc(keepers, func(j int) bool { return goesFirst(nodes, r, j, i) }) {
				t.Fatalf("%s loses %s to %v: %s", name, mine, keepers, cidrs(nodes))
			}
			if told[name] != 1 {
				t.Fatalf("%s lost %s and is told %d times: %v", name, mine, told[name], problems)
			}
		}
		if _, _, andThen, same := disjoint(nodes, again); !slices.Equal(andThen, contested) || !slices.Equal(same, problems) {
			t.Fatalf("what is in force does not stay so: %v, %v, and before %v, %v", andThen, same, contested, problems)
		}
	}
}

// Every node inside a pod CIDR is told of, and no other; likewise every address
// that an earlier node has.
func TestAddressesThatClashAreFound(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		nodes, claims, _, _ := disjoint(someNodes(random), registry{})
		inside, shared := 0, 0
		for i, n := range nodes {
			a := n.node.Addresses[0]
			if slices.ContainsFunc(nodes, func(o meaning) bool { return len(o.node.PodCIDRs) > 0 && o.node.PodCIDRs[0].Contains(a) }) {
				inside++
			}
			if slices.ContainsFunc(nodes[:i], func(o meaning) bool { return o.node.Addresses[0] == a }) {
				shared++
			}
		}
		if got := addressesInPods(nodes, claims); len(got) != inside {
			t.Fatalf("%d nodes are inside pod CIDRs, told: %v; pod CIDRs %v", inside, got, nodes)
		}
		if got := sharedAddresses(nodes); len(got) != shared {
			t.Fatalf("%d nodes share an address, told: %v", shared, got)
		}
	}
}

func cidrs(nodes []meaning) string {
	var out string
	for _, n := range nodes {
		out += fmt.Sprintf("%s %s made at %d, ", n.node.Name, n.node.PodCIDRs[0], n.created)
	}
	return out
}
