package controller

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// A past is a cluster whose Egresses and Nodes come, change and go.
type past struct {
	random *rand.Rand
	book   *book
	nodes  map[string]*corev1.Node
	all    map[string]*v1alpha1.Egress
	minute int
}

func (p *past) step() {
	r := p.random
	p.minute++
	switch name := fmt.Sprintf("e%d", r.IntN(8)); {
	case r.IntN(4) == 0:
		n := host(r.IntN(6), func(n *corev1.Node) {
			if r.IntN(3) == 0 {
				one(r, cordoned, down, onlyIPv4, drained, takes("1"), labelled("x"))(n)
			}
		})
		if p.nodes[n.Name] != nil && r.IntN(2) == 0 {
			delete(p.nodes, n.Name)
			return
		}
		p.nodes[n.Name] = n
	case p.all[name] == nil:
		p.all[name] = egress(name, p.minute/2, p.some()...)
	case r.IntN(3) == 0:
		delete(p.all, name)
	case r.IntN(8) == 0: // what somebody else wrote
		e := p.all[name].DeepCopy()
		for i := range e.Status.Addresses {
			e.Status.Addresses[i].Number, e.Status.Addresses[i].Node = r.IntN(20)-2, "n9"
		}
		p.all[name] = e
	default:
		e := p.all[name].DeepCopy()
		e.Spec.EgressIPs = p.some()
		p.all[name] = e
	}
}

func (p *past) some() []string {
	var out []string
	for range 1 + p.random.IntN(3) {
		out = append(out, one(p.random, fmt.Sprintf("198.51.100.%d", p.random.IntN(12)), fmt.Sprintf("2001:db8::%d", p.random.IntN(12)), "192.0.2.3", "10.244.2.9", "nothing"))
	}
	return out
}

func (p *past) cluster() *Cluster {
	c := clusterOf(slices.Collect(maps.Values(p.nodes)), slices.Collect(maps.Values(p.all))...)
	p.random.Shuffle(len(c.Objects), func(i, j int) { c.Objects[i], c.Objects[j] = c.Objects[j], c.Objects[i] })
	return c
}

// has is what each address has.
func has(all map[string]Status) map[string]v1alpha1.EgressAddress {
	out := map[string]v1alpha1.EgressAddress{}
	for _, s := range all {
		for _, a := range s.Addresses {
			out[a.IP] = a
		}
	}
	return out
}

// Whatever happened before: no number and no address is had twice, the order of what is
// seen does not count, what was written is right in the next turn, an Egress more moves
// nobody, and an address whose Node is there stays.
func FuzzHistories(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		p := &past{random: rand.New(rand.NewPCG(seed, 1)), book: new(book), nodes: map[string]*corev1.Node{}, all: map[string]*v1alpha1.Egress{}}
		for range 60 {
			p.step()
			before, asked := has(statuses1(p.all)), p.cluster()
			same := *p.book
			now1 := p.book.assign(asked, now)
			distinct(t, now1)
			if other := same.assign(p.cluster(), now); fmt.Sprint(texts(now1)) != fmt.Sprint(texts(other)) {
				t.Fatalf("%v in one order, %v in another", texts(now1), texts(other))
			}
			p.stays(t, before, has(now1))
			for name, e := range p.all {
				next := e.DeepCopy()
				next.Status.Addresses = now1["Egress "+name].Addresses
				p.all[name] = next
			}
			if again := p.book.assign(p.cluster(), now.Add(1e12)); fmt.Sprint(texts(now1)) != fmt.Sprint(texts(again)) {
				t.Fatalf("%v, and then %v, although nothing changed", texts(now1), texts(again))
			}
			more := p.cluster()
			more.Objects = append(more.Objects, ofEgress(egress("a-new-one", p.minute+1, "198.51.100.99", "198.51.100.1")))
			after := has(p.book.assign(more, now))
			for ip, a := range has(now1) {
				if got := after[ip]; got.Number != a.Number || got.Node != a.Node && a.Node != "" {
					t.Fatalf("%v moves to %v for one Egress more", a, got)
				}
			}
		}
	})
}

// stays checks that what an address had it has, if it may.
func (p *past) stays(t *testing.T, before, after map[string]v1alpha1.EgressAddress) {
	t.Helper()
	seen := map[int]int{}
	for _, a := range before {
		seen[a.Number]++
	}
	for ip, a := range before {
		got, asked := after[ip]
		if !asked {
			continue
		}
		if a.Number > 0 && seen[a.Number] == 1 && got.Number != a.Number {
			t.Fatalf("%v has another number: %v", a, got)
		}
		n := p.nodes[a.Node]
		fits := n != nil && (len(n.Status.Addresses) > 2 || netip.MustParseAddr(ip).Is4())
		if (fits || len(p.nodes) == 0) && got.Node != a.Node {
			t.Fatalf("%v moves to %v", a, got)
		}
	}
}

func statuses1(all map[string]*v1alpha1.Egress) map[string]Status {
	out := map[string]Status{}
	for name, e := range all {
		out["Egress "+name] = Status{Addresses: e.Status.Addresses}
	}
	return out
}

// texts are statuses in words, without times.
func texts(all map[string]Status) map[string]string {
	out := map[string]string{}
	for name, s := range all {
		text := conditionsOf(s)
		for _, a := range s.Addresses {
			text += fmt.Sprintf(" %s=%d@%s", a.IP, a.Number, a.Node)
		}
		out[name] = text
	}
	return out
}

// large are Egresses with one address each, and nodes.
func large(egresses, nodes int) *Cluster {
	var machines []*corev1.Node
	for i := range nodes {
		n := host(0)
		n.Name = fmt.Sprintf("node-%d", i)
		n.Labels = map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i%3)}
		n.Spec.PodCIDRs = []string{fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255), fmt.Sprintf("fd00:0:0:%x::/64", i)}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.16.%d.%d", i>>8, i&255)}, {Type: corev1.NodeInternalIP, Address: fmt.Sprintf("fd01::%x", i)}}
		machines = append(machines, n)
	}
	var all []*v1alpha1.Egress
	for i := range egresses {
		all = append(all, egress(fmt.Sprintf("egress-%d", i), i, fmt.Sprintf("198.18.%d.%d", i>>8, i&255)))
	}
	return clusterOf(machines, all...)
}

// What a turn has to compute for 10,000 Egresses on 5,000 nodes: the first time, and
// when nothing has changed.
func BenchmarkAssign(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		c := large(10_000, 5000)
		for b.Loop() {
			new(book).assign(c, now)
		}
	})
	b.Run("nothing changed", func(b *testing.B) {
		c, book := large(10_000, 5000), new(book)
		all := book.assign(c, now)
		for i, o := range c.Objects {
			c.Objects[i].Status = all[o.String()]
		}
		for b.Loop() {
			book.assign(c, now)
			c.Verdicts()
		}
	})
}
