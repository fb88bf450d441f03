// Package placement chooses the node that has an address of an Egress.
//
// It is a pure function of what is asked: whoever has seen the same chooses the same.
// It stands on the standard library, so that everybody may ask it.
package placement

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
)

// NoLimit is the Most of a node that takes any number of addresses.
const NoLimit = -1

// A Node can have addresses.
type Node struct {
	Name       string
	Zone       string // "": not known
	IPv4, IPv6 bool   // it has an InternalIP of the family
	Ready      bool
	Closed     string // why it takes no more addresses, such as "cordoned"; "": it takes some
	Most       int    // as many as it takes; NoLimit: any number
}

// An Address is to be at a node.
type Address struct {
	netip.Addr
	Egress string // that it is of
	Node   string // that has it; "": none
}

// Places are where addresses are.
type Places struct {
	Nodes  []string // of each address, in the order asked; "": none
	seats  []*seat
	calm   bool  // no node is Ready: then that does not count
	inZone []int // addresses of the Egress at hand, by zone
}

// A seat is a node while addresses are placed.
type seat struct {
	*Node
	hash uint64
	zone int // its number
	has  int // addresses
}

func (n *Node) fits(a netip.Addr) bool { return a.Is4() && n.IPv4 || a.Is6() && n.IPv6 }

// Place returns where each address is. Who has one keeps it while it is there and has
// an InternalIP of its family; its other qualities count only for addresses that nobody
// has. Those go to the node that has the fewest, then to a zone where the same Egress
// has the fewest, then to the one whose name comes first when hashed with the address:
// so an address that is lost does not shift the others. While no node is known nothing
// is taken away.
func Place(addresses []Address, nodes []Node) *Places {
	p := &Places{Nodes: make([]string, len(addresses))}
	if len(nodes) == 0 {
		for i, a := range addresses {
			p.Nodes[i] = a.Node
		}
		return p
	}
	p.seat(nodes)
	byName := make(map[string]*seat, len(nodes))
	for _, s := range p.seats {
		byName[s.Name] = s
	}
	var loose []int
	for i, a := range addresses {
		if s := byName[a.Node]; s != nil && s.fits(a.Addr) {
			p.Nodes[i] = a.Node
			s.has++
		} else {
			loose = append(loose, i)
		}
	}
	if len(loose) == 0 {
		return p
	}
	at := map[string][]*seat{} // by Egress
	for i, a := range addresses {
		if s := byName[p.Nodes[i]]; s != nil {
			at[a.Egress] = append(at[a.Egress], s)
		}
	}
	slices.SortFunc(loose, func(i, j int) int {
		a, b := addresses[i], addresses[j]
		return cmp.Or(a.Compare(b.Addr), strings.Compare(a.Egress, b.Egress))
	})
	for _, i := range loose {
		a := addresses[i]
		if s := p.choose(a, at[a.Egress]); s != nil {
			p.Nodes[i] = s.Name
			s.has++
			at[a.Egress] = append(at[a.Egress], s)
		}
	}
	return p
}

// seat gives each node its seat.
func (p *Places) seat(nodes []Node) {
	numbers := map[string]int{}
	p.calm = !slices.ContainsFunc(nodes, func(n Node) bool { return n.Ready })
	p.seats = make([]*seat, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		if _, known := numbers[n.Zone]; !known {
			numbers[n.Zone] = len(numbers)
		}
		p.seats[i] = &seat{Node: n, hash: hashed([]byte(n.Name)), zone: numbers[n.Zone]}
	}
	p.inZone = make([]int, len(numbers))
}

// takes reports whether the node takes one more address.
func (p *Places) takes(s *seat) bool {
	return (s.Ready || p.calm) && s.Closed == "" && (s.Most == NoLimit || s.has < s.Most)
}

// choose returns the best node for an address of an Egress that has others at some.
func (p *Places) choose(a Address, others []*seat) *seat {
	raw := a.As16()
	salt := hashed(raw[:])
	for _, s := range others {
		p.inZone[s.zone]++
	}
	defer clear(p.inZone)
	var best *seat
	for _, s := range p.seats {
		if !s.fits(a.Addr) || !p.takes(s) || best != nil && s.has > best.has {
			continue
		}
		if best == nil || p.better(s, best, salt) {
			best = s
		}
	}
	return best
}

func (p *Places) better(s, t *seat, salt uint64) bool {
	if s.has != t.has {
		return s.has < t.has
	}
	if x, y := p.inZone[s.zone], p.inZone[t.zone]; x != y {
		return x < y
	}
	x, y := mixed(s.hash^salt), mixed(t.hash^salt)
	if x != y {
		return x > y
	}
	return s.Name < t.Name
}

func hashed(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b)
	return mixed(h.Sum64())
}

// mixed is the last step of splitmix64: every bit of x counts for every bit of it.
func mixed(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// WhyNone says why no node takes one more address of a's family. It has no figures:
// those would change all the time.
func (p *Places) WhyNone(a netip.Addr) string {
	family := "IPv4"
	if a.Is6() {
		family = "IPv6"
	}
	if len(p.seats) == 0 {
		return "no Node is known"
	}
	why := map[string]bool{}
	for _, s := range p.seats {
		switch {
		case !s.fits(a):
		case s.Closed != "":
			why[s.Closed] = true
		case !s.Ready && !p.calm:
			why["not Ready"] = true
		default:
			why["at the number of addresses that they take"] = true
		}
	}
	if len(why) == 0 {
		return fmt.Sprintf("no Node has an %s InternalIP", family)
	}
	var words []string
	for w := range why {
		words = append(words, w)
	}
	slices.Sort(words)
	return fmt.Sprintf("all Nodes with an %s InternalIP are %s", family, strings.Join(words, " or "))
}
