package source

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// settled is what the nodes of the cluster are to one another.
type settled struct {
	of       together
	node     *world.Node
	peers    *world.Peers
	claims   *Claims
	problems []world.Problem
}

// together is all that this follows from.
type together struct {
	nodes   []*corev1.Node
	reports []*v1alpha1.FairleadNode
	before  *world.Peers // in force until now; nil: none
	claims  *Claims      // of them that are contested; nil: none
	limit   *bounds
}

// decides reports whether s follows from t too. What was in force and is so again
// leads to nothing new.
func (s *settled) decides(t together) bool {
	return s.peers != nil && s.of.limit == t.limit && slices.Equal(s.of.nodes, t.nodes) && slices.Equal(s.of.reports, t.reports) &&
		(t.before == s.of.before || t.before == s.peers) && (t.claims == s.of.claims || t.claims == s.claims)
}

// settleNodes makes of the nodes what they are to one another, sorted by name.
func (b *Builder) settleNodes(t together) settled {
	nodes, problems := b.parseNodes(t.nodes)
	bouncer := bouncer{bounds: t.limit}
	for _, m := range nodes {
		if m.node.Name == b.node {
			bouncer.own = m.node
		}
	}
	for i, m := range nodes {
		if m.node.Name != b.node {
			n, more := bouncer.peer(m.node)
			nodes[i].node, problems = n, append(problems, more...)
		}
	}
	r := registry{own: b.node, inForce: map[Claim]bool{}}
	if t.claims != nil {
		for _, c := range t.claims.List {
			r.inForce[c] = true
		}
	}
	if t.before != nil {
		for _, n := range t.before.Nodes {
			for _, c := range n.PodCIDRs {
				r.inForce[Claim{Node: n.Name, CIDR: c}] = true
			}
		}
	}
	nodes, claims, contested, more := disjoint(nodes, r)
	problems = append(problems, more...)
	problems = append(problems, ownAddresses(nodes, b.node, t.before)...)
	problems = append(problems, sharedAddresses(nodes)...)
	problems = append(problems, addressesInPods(nodes, claims)...)
	problems = append(problems, newRegistrar(bouncer, nodes, claims).reportedEnds(t.reports, nodes)...)
	out := settled{of: t, peers: &world.Peers{}, claims: t.claims, problems: problems}
	if now := (&Claims{List: contested}); t.claims == nil && len(contested) > 0 || t.claims != nil && !now.Equal(t.claims) {
		out.claims = now
	}
	for _, n := range nodes {
		if n.node.Name == b.node {
			out.node = n.node
		} else {
			out.peers.Nodes = append(out.peers.Nodes, n.node)
		}
	}
	return out
}

// sharedAddresses tells of addresses that two nodes have. Both keep them: the
// one that is wrong may be of a node that is no more.
func sharedAddresses(nodes []meaning) []world.Problem {
	var problems []world.Problem
	first := map[netip.Addr]*world.Node{}
	for _, m := range nodes {
		n := m.node
		for _, a := range n.Addresses {
			switch owner := first[a]; owner {
			case nil:
				first[a] = n
			case n:
			default:
				problems = append(problems, world.Problem{
					Object: "Node " + n.Name, Field: "status.addresses",
					Reason: fmt.Sprintf("%s is an address of Node %s too", a, owner.Name),
					Hint:   "give every node an address of its own, and delete Nodes that no longer exist",
				})
			}
		}
	}
	return problems
}

// addressesInPods tells of nodes inside a pod CIDR: what is for the node could
// be sent where its pods are.
func addressesInPods(nodes []meaning, claims []claim) []world.Problem {
	var problems []world.Problem
	for _, n := range nodes {
		for _, a := range n.node.Addresses {
			if c := around(claims, a); c != nil {
				problems = append(problems, world.Problem{
					Object: "Node " + n.node.Name, Field: "status.addresses",
					Reason: fmt.Sprintf("%s is inside %s, the pod CIDR of Node %s: packets to the node may be sent to pods", a, c.CIDR, c.Node),
					Hint:   "keep pod CIDRs apart from the nodes' networks",
				})
			}
		}
	}
	return problems
}

// around returns the narrowest claim that has a in it, if there is one.
func around(claims []claim, a netip.Addr) *claim {
	whole := netip.PrefixFrom(a, a.BitLen())
	i, _ := slices.BinarySearchFunc(claims, whole, func(c claim, p netip.Prefix) int { return c.CIDR.Compare(p) })
	for i--; i >= 0; i = claims[i].above {
		if claims[i].CIDR.Contains(a) {
			return &claims[i]
		}
	}
	return nil
}

// besideOthers tells of peers that make the pod network where this node leaves it to
// another: packets between the two are lost.
func besideOthers(w *world.World, node string) []world.Problem {
	if w.Config.Overlay.Mode != world.None {
		return nil
	}
	var names []string
	for _, p := range w.Peers.Nodes {
		if m := p.InForce.Mode; m != "" && m != world.None {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []world.Problem{{Object: "Node " + node, Field: "overlay.mode", Hint: "set overlay.mode to none on all nodes or on no node",
		Reason: "is none, and another on " + quote.Some(names, len(names)) + ": packets between their pods and those of this node are lost"}}
}
