package source

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

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

// sharedAddresses tells of addresses that two nodes have. Both keep them: the
// one that is wrong may be of a node that is no more.
func sharedAddresses(nodes []*world.Node) []world.Problem {
	var problems []world.Problem
	first := map[netip.Addr]*world.Node{}
	for _, n := range nodes {
		for _, a := range n.Addresses {
			switch owner := first[a]; owner {
			case nil:
				first[a] = n
			case n:
			default:
				problems = append(problems, world.Problem{
					Object: "Node " + n.Name, Field: "status.addresses",
					Reason: fmt.Sprintf("%s is an address of Node %s too", a, owner.Name),
					Hint:   "give every node an address of its own, and delete the Node that is no more",
				})
			}
		}
	}
	return problems
}

// addressesInPods tells of nodes inside a pod CIDR: what is for the node could
// be sent where its pods are.
func addressesInPods(nodes []*world.Node) []world.Problem {
	claims := claimsOf(nodes)
	var problems []world.Problem
	for _, n := range nodes {
		for _, a := range n.Addresses {
			if c := around(claims, a); c != nil {
				problems = append(problems, world.Problem{
					Object: "Node " + n.Name, Field: "status.addresses",
					Reason: fmt.Sprintf("%s is inside %s, the pod CIDR of Node %s: what is for the node may be sent to pods", a, c.cidr, nodes[c.node].Name),
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
	i, _ := slices.BinarySearchFunc(claims, whole, func(c claim, p netip.Prefix) int { return c.cidr.Compare(p) })
	for i--; i >= 0; i = claims[i].above {
		if claims[i].cidr.Contains(a) {
			return &claims[i]
		}
	}
	return nil
}
