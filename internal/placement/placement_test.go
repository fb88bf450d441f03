package placement

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// node is one that takes what comes, unless changes say otherwise.
func node(name string, changes ...func(*Node)) Node {
	n := Node{Name: name, IPv4: true, IPv6: true, Ready: true, Most: NoLimit}
	for _, change := range changes {
		change(&n)
	}
	return n
}

func most(k int) func(*Node)        { return func(n *Node) { n.Most = k } }
func in(zone string) func(*Node)    { return func(n *Node) { n.Zone = zone } }
func closed(why string) func(*Node) { return func(n *Node) { n.Closed = why } }
func notReady(n *Node)              { n.Ready = false }
func onlyIPv6(n *Node)              { n.IPv4 = false }

// addresses reads "IP EGRESS NODE; ...".
func addresses(text string) []Address {
	var out []Address
	for part := range strings.SplitSeq(text, ";") {
		words := append(strings.Fields(part), "", "")
		out = append(out, Address{netip.MustParseAddr(words[0]), words[1], words[2]})
	}
	return out
}

var schedules = []struct {
	name, asked string
	nodes       []Node
	want        string // how many each has; a node alone: the last address is there
}{
	{"sufficient capacity", "198.51.100.1 a; 198.51.100.2 a; 198.51.100.3 b; 198.51.100.4 c", []Node{node("n1"), node("n2")}, "n1 2, n2 2"},
	{"node specific limit", "198.51.100.1 a; 198.51.100.2 a; 198.51.100.3 b; 198.51.100.4 c", []Node{node("n1", most(1)), node("n2")}, "n1 1, n2 3"},
	{"insufficient node capacity", "198.51.100.1 a; 198.51.100.2 a; 198.51.100.3 b", []Node{node("n1", most(0)), node("n2", most(2))}, "none 1, n2 2"},
	{"insufficient cluster capacity", "198.51.100.1 a; 198.51.100.2 a; 198.51.100.3 b", []Node{node("n1", most(1)), node("n2", most(1))}, "none 1, n1 1, n2 1"},
	{"no node is known, and none is taken away", "198.51.100.1 a n1; 198.51.100.2 a", nil, "none 1, n1 1"},
	{"no matching node", "198.51.100.1 a", []Node{node("n1", onlyIPv6)}, "none 1"},
	{"the family decides", "198.51.100.1 a; 2001:db8::1 a; 2001:db8::2 a", []Node{node("n1", onlyIPv6), node("n2", most(1))}, "n1 2, n2 1"},
	{"a node that is gone loses it", "198.51.100.1 a gone", []Node{node("n1")}, "n1 1"},
	{"a node that lost its family loses it", "198.51.100.1 a n1", []Node{node("n1", onlyIPv6), node("n2")}, "n2 1"},
	{"who is not ready keeps it", "198.51.100.1 a n1; 198.51.100.2 a", []Node{node("n1", notReady), node("n2")}, "n1 1, n2 1"},
	{"who is not ready gets none", "198.51.100.1 a; 198.51.100.2 a", []Node{node("n1", notReady), node("n2")}, "n2 2"},
	{"none is ready", "198.51.100.1 a; 198.51.100.2 a", []Node{node("n1", notReady), node("n2", notReady)}, "n1 1, n2 1"},
	{"who is cordoned keeps it, and gets none", "198.51.100.1 a n1; 198.51.100.2 a; 198.51.100.3 a", []Node{node("n1", closed("cordoned")), node("n2")}, "n1 1, n2 2"},
	{"all are cordoned", "198.51.100.1 a", []Node{node("n1", closed("cordoned"))}, "none 1"},
	{"who has too many keeps them", "198.51.100.1 a n1; 198.51.100.2 a n1; 198.51.100.3 a", []Node{node("n1", most(1)), node("n2")}, "n1 2, n2 1"},
	{"the fewest come before another zone", "198.51.100.1 a n1; 198.51.100.2 b n3; 198.51.100.3 a", []Node{node("n1", in("z1")), node("n2", in("z1")), node("n3", in("z2"))}, "n1 1, n2 1, n3 1"},
	{"another zone than the same Egress's", "198.51.100.1 a n1; 198.51.100.2 a", []Node{node("n1", in("z1")), node("n2", in("z1")), node("n3", in("z1")), node("n4", in("z2"))}, "n1 1, n4 1"},
	{"zones of other Egresses do not count", "198.51.100.1 b n1; 198.51.100.2 b n2; 198.51.100.3 a n3; 198.51.100.4 a", []Node{node("n1", in("z1")), node("n2", in("z1")), node("n3", in("z2")), node("n4", in("z1")), node("n5", in("z2"))}, "n1 1, n2 1, n3 1, n4 1"},
}

func tally(nodes []string) string {
	n := map[string]int{}
	for _, name := range nodes {
		n[name]++
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		shown := name
		if name == "" {
			shown = "none"
		}
		out = append(out, fmt.Sprintf("%s %d", shown, n[name]))
	}
	return strings.Join(out, ", ")
}

func TestSchedule(t *testing.T) {
	for _, tt := range schedules {
		t.Run(tt.name, func(t *testing.T) {
			asked := addresses(tt.asked)
			p := Place(asked, tt.nodes)
			if got := tally(p.Nodes); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for i, a := range asked {
				if a.Node != "" && strings.HasPrefix(tt.name, "who") && p.Nodes[i] != a.Node {
					t.Errorf("%s went from %s to %q", a.Addr, a.Node, p.Nodes[i])
				}
			}
		})
	}
}

func TestWhyNoNodeTakesAnAddress(t *testing.T) {
	a := netip.MustParseAddr("198.51.100.1")
	for want, nodes := range map[string][]Node{
		"no Node is known":                    nil,
		"no Node has an IPv4 InternalIP":      {node("n1", onlyIPv6)},
		"InternalIP are cordoned":             {node("n1", closed("cordoned")), node("n2", onlyIPv6)},
		"InternalIP are not Ready or tainted": {node("n1", closed("tainted")), node("n2", notReady), node("n3", onlyIPv6)},
		"at the number of addresses":          {node("n1", most(0))},
	} {
		if got := Place([]Address{{Addr: a}}, nodes).WhyNone(a); !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}

// varied are nodes and addresses at random, some placed.
func varied(random *rand.Rand) ([]Address, []Node) {
	var nodes []Node
	for i := range 1 + random.IntN(8) {
		nodes = append(nodes, Node{Name: fmt.Sprintf("n%d", i), Zone: []string{"", "z1", "z2"}[random.IntN(3)], IPv4: random.IntN(8) > 0, IPv6: random.IntN(3) > 0,
			Ready: random.IntN(4) > 0, Closed: []string{"", "", "", "cordoned"}[random.IntN(4)], Most: random.IntN(6) - 1})
	}
	var asked []Address
	for i := range random.IntN(24) {
		a := Address{Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), Egress: fmt.Sprintf("e%d", random.IntN(5))}
		if random.IntN(3) == 0 {
			a.Addr = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)})
		}
		if random.IntN(2) == 0 {
			a.Node = fmt.Sprintf("n%d", random.IntN(10))
		}
		asked = append(asked, a)
	}
	return asked, nodes
}

// Where an address is depends on no order; what is placed stays there when there are
// more addresses and more nodes; and no node takes more than it says.
func FuzzPlace(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		asked, nodes := varied(random)
		at := map[netip.Addr]string{}
		had := map[string]int{}
		for i, node := range Place(asked, nodes).Nodes {
			at[asked[i].Addr] = node
			had[node]++
		}
		for _, n := range nodes {
			kept := 0
			for _, a := range asked {
				if a.Node == n.Name && n.fits(a.Addr) {
					kept++
				}
			}
			if n.Most != NoLimit && had[n.Name] > max(n.Most, kept) || n.Closed != "" && had[n.Name] > kept {
				t.Errorf("%+v has %d, of them %d from before", n, had[n.Name], kept)
			}
		}
		random.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
		random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		for i, node := range Place(asked, nodes).Nodes {
			if node != at[asked[i].Addr] {
				t.Errorf("%v is at %q in one order and at %q in another", asked[i], at[asked[i].Addr], node)
			}
			asked[i].Node = node
		}
		more := append(slices.Clone(asked), Address{Addr: netip.MustParseAddr("192.0.2.1"), Egress: "e0"}, Address{Addr: netip.MustParseAddr("192.0.2.2"), Egress: "new"})
		for i, node := range Place(more, append(nodes, Node{Name: "new", IPv4: true, IPv6: true, Ready: true, Most: NoLimit})).Nodes[:len(asked)] {
			if asked[i].Node != "" && node != asked[i].Node {
				t.Errorf("%v moves to %q", asked[i], node)
			}
		}
	})
}

// An address that nobody has goes to few other nodes when one of many goes.
func TestAddressesAreSpread(t *testing.T) {
	var nodes []Node
	for i := range 10 {
		nodes = append(nodes, node(fmt.Sprintf("n%d", i)))
	}
	first := map[string]bool{}
	for i := range 100 {
		first[Place([]Address{{Addr: netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})}}, nodes).Nodes[0]] = true
	}
	if len(first) < 9 {
		t.Errorf("alone, 100 addresses choose among %d of 10 nodes", len(first))
	}
}
