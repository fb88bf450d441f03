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
	if last.Peers != nil && last.Peers != w.Peers {
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
	if last.Allocations != nil {
		w.Allocations = w.Allocations.Keeping(last.Allocations)
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

// A claim is one node's pod CIDR.
type claim struct {
	cidr  netip.Prefix
	node  int
	above int // the claim just around this one, or -1
	kept  bool
	below int // a claim inside this one that is kept, or -1
}

// disjoint takes pod CIDRs away that overlap one that an earlier node keeps.
func disjoint(nodes []*world.Node) ([]*world.Node, []world.Problem) {
	claims := claimsOf(nodes)
	order := make([]int, len(claims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return claims[i].node - claims[j].node })
	out := slices.Clone(nodes)
	var problems []world.Problem
	for _, i := range order {
		c := &claims[i]
		if winner := keeper(claims, i); winner != nil {
			n := *out[c.node]
			n.PodCIDRs = slices.DeleteFunc(slices.Clone(n.PodCIDRs), func(p netip.Prefix) bool { return p == c.cidr })
			out[c.node] = &n
			problems = append(problems, world.Problem{
				Object: "Node " + n.Name, Field: "spec.podCIDRs",
				Reason: fmt.Sprintf("%s overlaps %s of Node %s, which keeps it", c.cidr, winner.cidr, nodes[winner.node].Name),
				Hint:   "give every node a pod CIDR of its own",
			})
			continue
		}
		c.kept = true
		for a := c.above; a >= 0; a = claims[a].above {
			claims[a].below = i
		}
	}
	return out, problems
}

// claimsOf sorts the pod CIDRs of all nodes, each with the one around it: of two
// that overlap, one holds the other.
func claimsOf(nodes []*world.Node) []claim {
	var claims []claim
	for i, n := range nodes {
		for _, c := range n.PodCIDRs {
			claims = append(claims, claim{cidr: c, node: i, below: -1})
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return a.cidr.Compare(b.cidr) })
	for i := range claims {
		above := i - 1
		for above >= 0 && !claims[above].cidr.Overlaps(claims[i].cidr) {
			above = claims[above].above
		}
		claims[i].above = above
	}
	return claims
}

// keeper returns the claim that is kept and overlaps claim i, if there is one.
func keeper(claims []claim, i int) *claim {
	for a := claims[i].above; a >= 0; a = claims[a].above {
		if claims[a].kept {
			return &claims[a]
		}
	}
	if below := claims[i].below; below >= 0 {
		return &claims[below]
	}
	return nil
}
