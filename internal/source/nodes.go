package source

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/world"
)

// keep puts the last world's parts in the place of equal ones.
func (b *Builder) keep(w *world.World) {
	last := b.last
	if last.Node != nil && w.Node != nil && last.Node.Equal(w.Node) {
		w.Node = last.Node
	}
	if last.Peers != nil {
		byName := map[string]*world.Node{}
		for _, n := range last.Peers.Nodes {
			byName[n.Name] = n
		}
		for i, n := range w.Peers.Nodes {
			if old := byName[n.Name]; old != nil && old.Equal(n) {
				w.Peers.Nodes[i] = old
			}
		}
		if slices.Equal(last.Peers.Nodes, w.Peers.Nodes) {
			w.Peers = last.Peers
		}
	}
	if last.Config != nil && last.Config.Equal(w.Config) {
		w.Config = last.Config
	}
	if last.Kernel != nil && last.Kernel.Equal(w.Kernel) {
		w.Kernel = last.Kernel
	}
}

// parseNodes returns the nodes sorted by name, without pod CIDRs that an
// earlier node has.
func (b *Builder) parseNodes(objects []*corev1.Node) ([]*world.Node, []world.Problem) {
	var out []*world.Node
	var problems []world.Problem
	known := make(map[*corev1.Node]meaning, len(objects))
	for _, o := range objects {
		m, ok := b.nodes[o]
		if !ok {
			m = parseNode(o)
		}
		known[o] = m
		out = append(out, m.node)
		problems = append(problems, m.problems...)
	}
	b.nodes = known
	slices.SortFunc(out, func(x, y *world.Node) int { return strings.Compare(x.Name, y.Name) })
	out, more := disjoint(out)
	return out, append(problems, more...)
}

func parseNode(o *corev1.Node) meaning {
	object := "Node " + o.Name
	var problems []world.Problem
	report := func(field, reason, hint string) {
		problems = append(problems, world.Problem{Object: object, Field: field, Reason: reason, Hint: hint})
	}
	n := &world.Node{Name: o.Name}
	for i, a := range o.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		addr, err := netip.ParseAddr(a.Address)
		if err != nil || addr.Zone() != "" {
			report(fmt.Sprintf("status.addresses[%d].address", i), fmt.Sprintf("%q is no IP address", a.Address), "write one such as 192.0.2.1")
			continue
		}
		n.Addresses = append(n.Addresses, addr.Unmap())
	}
	cidrs, field := o.Spec.PodCIDRs, "spec.podCIDRs"
	if len(cidrs) == 0 && o.Spec.PodCIDR != "" {
		cidrs, field = []string{o.Spec.PodCIDR}, "spec.podCIDR"
	}
	for i, s := range cidrs {
		at := field
		if field == "spec.podCIDRs" {
			at = fmt.Sprintf("%s[%d]", field, i)
		}
		p, reason, hint := parsePodCIDR(s, n.PodCIDRs)
		if reason != "" {
			report(at, reason, hint)
			continue
		}
		n.PodCIDRs = append(n.PodCIDRs, p)
	}
	return meaning{n, problems}
}

// minHostBits leaves a pod CIDR room for the node itself and for pods.
const minHostBits = 2

func parsePodCIDR(s string, others []netip.Prefix) (p netip.Prefix, reason, hint string) {
	p, reason, hint = parseCIDR(s)
	if reason != "" {
		return p, reason, hint
	}
	if p.Addr().BitLen()-p.Bits() < minHostBits {
		return p, fmt.Sprintf("%s has no room for pods", s), fmt.Sprintf("use a prefix of at most /%d", p.Addr().BitLen()-minHostBits)
	}
	for _, o := range others {
		if o.Addr().Is4() == p.Addr().Is4() {
			return p, fmt.Sprintf("%s is a second pod CIDR of its family, besides %s", s, o), "a node has at most one of each family"
		}
	}
	return p, "", ""
}

func parseCIDR(s string) (p netip.Prefix, reason, hint string) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Sprintf("%q is no CIDR", s), "write an address and a prefix length, such as 192.0.2.0/24"
	case p.Addr().Is4In6():
		return p, fmt.Sprintf("%q is IPv4 written as IPv6", s), "write the IPv4 form"
	case p != p.Masked():
		return p, fmt.Sprintf("%s has bits set behind its prefix", s), fmt.Sprintf("write %s", p.Masked())
	}
	return p, "", ""
}

// disjoint takes pod CIDRs away that overlap an earlier node's, and nodes
// without a name or with one that is taken.
func disjoint(nodes []*world.Node) ([]*world.Node, []world.Problem) {
	type claim struct {
		cidr netip.Prefix
		node int
	}
	var claims []claim
	for i, n := range nodes {
		for _, c := range n.PodCIDRs {
			claims = append(claims, claim{c, i})
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int {
		if c := a.cidr.Addr().Compare(b.cidr.Addr()); c != 0 {
			return c
		}
		return a.cidr.Bits() - b.cidr.Bits()
	})
	lost := map[int][]netip.Prefix{}
	var problems []world.Problem
	for i := 1; i < len(claims); i++ {
		first, second := claims[i-1], claims[i]
		if !first.cidr.Overlaps(second.cidr) {
			continue
		}
		winner, loser := first, second
		if second.node < first.node {
			winner, loser = second, first
		}
		claims[i] = winner
		if winner.node == loser.node {
			continue
		}
		lost[loser.node] = append(lost[loser.node], loser.cidr)
		problems = append(problems, world.Problem{
			Object: "Node " + nodes[loser.node].Name, Field: "spec.podCIDRs",
			Reason: fmt.Sprintf("%s overlaps %s of Node %s, which keeps it", loser.cidr, winner.cidr, nodes[winner.node].Name),
			Hint:   "give every node a pod CIDR of its own",
		})
	}
	out := slices.Clone(nodes)
	for i, cidrs := range lost {
		n := *nodes[i]
		n.PodCIDRs = slices.DeleteFunc(slices.Clone(n.PodCIDRs), func(p netip.Prefix) bool { return slices.Contains(cidrs, p) })
		out[i] = &n
	}
	return out, problems
}
