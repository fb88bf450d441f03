package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// reader turns a Config into a Plan and notes every problem on the way.
type reader struct {
	source   string
	problems []world.Problem
	networks []claim
}

// A claim is a network that something in lab.yaml takes for itself.
type claim struct {
	prefix netip.Prefix
	field  string
}

func (r *reader) problem(field, reason, hint string) {
	r.problems = append(r.problems, world.Problem{Object: "Lab", Field: field, Reason: reason, Hint: hint, Source: r.source})
}

func (r *reader) plan(c Config) *Plan {
	p := &Plan{Agent: c.Agent}
	p.Underlays = r.underlays(c.Underlays)
	p.Nodes = r.nodes(c)
	p.Firewalls = r.firewalls(c.Firewalls)
	r.hosts(c, p)
	for i := range p.Firewalls {
		for _, a := range p.Firewalls[i].Router {
			r.claim(fmt.Sprintf("firewalls[%d]", i), a.Masked())
		}
	}
	if len(r.problems) > 0 {
		return nil
	}
	p.gateways()
	return p
}

// names checks the names of a list and that none is there twice.
func names[T any](r *reader, list string, items []T, name func(T) string) {
	seen := map[string]bool{}
	for i, item := range items {
		field, n := fmt.Sprintf("%s[%d].name", list, i), name(item)
		switch {
		case !IsLabel(n):
			r.problem(field, fmt.Sprintf("%q is no name", n), LabelHint)
		case seen[n]:
			r.problem(field, fmt.Sprintf("%q is there twice", n), "give each a name of its own")
		}
		seen[n] = true
	}
}

// claim notes that p is in use, and says so where it was before.
func (r *reader) claim(field string, p netip.Prefix) {
	for _, c := range r.networks {
		if c.prefix.Overlaps(p) {
			r.problem(field, fmt.Sprintf("%s overlaps %s of %s", p, c.prefix, c.field), "networks of a lab are apart")
			return
		}
	}
	r.networks = append(r.networks, claim{p, field})
}

// cidrs reads a list of at most one network of each family, IPv4 first.
func (r *reader) cidrs(field string, list []string) []netip.Prefix {
	var out []netip.Prefix
	if len(list) == 0 {
		r.problem(field, "is empty", "write one CIDR, or one of each family")
	}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			r.problem(at, fmt.Sprintf("%q is no CIDR", s), "such as 10.1.0.0/16 or fd00:1::/48")
			continue
		case p != p.Masked():
			r.problem(at, fmt.Sprintf("%s has bits behind its length", p), "write "+p.Masked().String())
		case slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Addr().Is4() == p.Addr().Is4() }):
			r.problem(at, fmt.Sprintf("%s is the second of its family", p), "write one CIDR, or one of each family")
		}
		r.claim(at, p.Masked())
		out = append(out, p.Masked())
	}
	slices.SortStableFunc(out, byFamily)
	return out
}

func byFamily(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() }

func (r *reader) underlays(list []UnderlayConfig) []Underlay {
	names(r, "underlays", list, func(u UnderlayConfig) string { return u.Name })
	if len(list) == 0 {
		r.problem("underlays", "is empty", "leave it out for the default")
	}
	var out []Underlay
	for i, u := range list {
		n := Underlay{SourceCheck: u.SourceCheck}
		for _, p := range r.cidrs(fmt.Sprintf("underlays[%d].cidrs", i), u.CIDRs) {
			if g, ok := at(p, lastOffset(p)); ok && roomy(p) {
				n.Gateways = append(n.Gateways, netip.PrefixFrom(g, p.Bits()))
			} else {
				r.problem(fmt.Sprintf("underlays[%d].cidrs", i), fmt.Sprintf("%s is too small", p), "leave room for the nodes and a gateway")
			}
		}
		out = append(out, n)
	}
	return out
}

// roomy reports whether p has at least two usable addresses.
func roomy(p netip.Prefix) bool { return p.Addr().BitLen()-p.Bits() >= 2 }

// Lengths of a node's part of the pod CIDRs.
const (
	nodeBits4 = 24
	nodeBits6 = 64
)

func (r *reader) nodes(c Config) []Node {
	names(r, "nodes", c.Nodes, func(n NodeConfig) string { return n.Name })
	if len(c.Nodes) == 0 || len(c.Nodes) > maxNodes {
		r.problem("nodes", fmt.Sprintf("has %d nodes", len(c.Nodes)), fmt.Sprintf("a lab has 1 to %d nodes", maxNodes))
	}
	pods := r.cidrs("podCIDRs", c.PodCIDRs)
	var out []Node
	for i, n := range c.Nodes {
		field := fmt.Sprintf("nodes[%d]", i)
		node := Node{Name: n.Name, Underlay: 0}
		if n.Underlay != "" {
			node.Underlay = slices.IndexFunc(c.Underlays, func(u UnderlayConfig) bool { return u.Name == n.Underlay })
		}
		if node.Underlay < 0 {
			r.problem(field+".underlay", fmt.Sprintf("%q is no underlay", n.Underlay), "define it in underlays")
			continue
		}
		node.PodCIDRs = r.podCIDRs(field, pods, i+1)
		if node.Underlay < len(c.Underlays) {
			node.Addresses = r.nodeAddresses(field, c.Underlays[node.Underlay], i+1)
		}
		out = append(out, node)
	}
	return out
}

func (r *reader) podCIDRs(field string, all []netip.Prefix, number int) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		bits := nodeBits4
		if p.Addr().Is6() {
			bits = nodeBits6
		}
		s, ok := subnet(p, bits, number)
		if !ok {
			r.problem(field, fmt.Sprintf("%s has no /%d number %d", p, bits, number), "widen podCIDRs")
			continue
		}
		out = append(out, s)
	}
	return out
}

// nodeAddresses numbers the nodes of the lab: the third ends in .3.
func (r *reader) nodeAddresses(field string, u UnderlayConfig, number int) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range u.CIDRs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			continue // said already
		}
		a, ok := at(p, uint64(number))
		if !ok || uint64(number) >= lastOffset(p) {
			r.problem(field, fmt.Sprintf("%s has no room for node number %d", p, number), "widen the underlay")
			continue
		}
		out = append(out, netip.PrefixFrom(a, p.Bits()))
	}
	slices.SortStableFunc(out, byFamily)
	return out
}
