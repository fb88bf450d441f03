package source

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// A claim is one node's pod CIDR.
type claim struct {
	Claim
	node    int
	rank    int   // the smallest is asked first
	created int64 // of its Node; 0: not known
	above   int   // the claim just around this one, or -1
	kept    bool
	within  bool // a claim inside this one is kept
}

// The ranks of claims. A node keeps its own pod CIDR whatever others say, and a
// peer one that is in force here. Between others the older Node goes before the
// younger one, since only the API server says when it was made.
const (
	rankOwn = iota
	rankInForce
	rankOther
)

// A registry says what pod CIDRs were before they were looked at.
type registry struct {
	own     string         // the node itself
	inForce map[Claim]bool // of its peers
}

// disjoint takes pod CIDRs away that overlap one that another node keeps, and
// returns what is kept, and of that what is kept against others.
func disjoint(nodes []meaning, r registry) (left []meaning, kept []claim, contested []Claim, problems []world.Problem) {
	claims := claimsOf(nodes)
	for i := range claims {
		c := &claims[i]
		c.created, c.rank = nodes[c.node].created, rankOther
		switch {
		case c.Node == r.own:
			c.rank = rankOwn
		case r.inForce[c.Claim]:
			c.rank = rankInForce
		}
	}
	settle(claims)
	left = slices.Clone(nodes)
	disputed := map[Claim]bool{}
	for i, c := range claims {
		if c.kept {
			continue
		}
		n := *left[c.node].node
		n.PodCIDRs = slices.DeleteFunc(slices.Clone(n.PodCIDRs), func(p netip.Prefix) bool { return p == c.CIDR })
		left[c.node].node = &n
		keepers := keepersOf(claims, i)
		for _, k := range keepers {
			if k.Node != r.own {
				disputed[k.Claim] = true
			}
		}
		problems = append(problems, overlap(c, keepers)...)
	}
	kept = slices.DeleteFunc(claims, func(c claim) bool { return !c.kept })
	for i := range kept { // in their order, none inside another
		kept[i].above = -1
		if disputed[kept[i].Claim] {
			contested = append(contested, kept[i].Claim)
		}
	}
	return left, kept, contested, problems
}

// settle decides which claims are kept.
func settle(claims []claim) {
	order := make([]int, len(claims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := claims[i], claims[j]
		return cmp.Or(a.rank-b.rank, first(a.created != 0, b.created != 0), cmp.Compare(a.created, b.created), a.node-b.node)
	})
	for _, i := range order {
		c := &claims[i]
		if c.within || keptAround(claims, i) >= 0 {
			continue
		}
		c.kept = true
		for a := c.above; a >= 0; a = claims[a].above {
			claims[a].within = true
		}
	}
}

// first orders what is before what is not.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// claimsOf sorts the pod CIDRs of all nodes, each with the one around it: of two
// that overlap, one holds the other.
func claimsOf(nodes []meaning) []claim {
	var claims []claim
	for i, n := range nodes {
		for _, c := range n.node.PodCIDRs {
			claims = append(claims, claim{Claim: Claim{Node: n.node.Name, CIDR: c}, node: i})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Or(a.CIDR.Compare(b.CIDR), a.node-b.node) })
	for i := range claims {
		above := i - 1
		for above >= 0 && !claims[above].CIDR.Overlaps(claims[i].CIDR) {
			above = claims[above].above
		}
		claims[i].above = above
	}
	return claims
}

// keptAround is the claim around claim i that is kept, or -1.
func keptAround(claims []claim, i int) int {
	a := claims[i].above
	for a >= 0 && !claims[a].kept {
		a = claims[a].above
	}
	return a
}

// keepersOf returns the claims that are kept and overlap claim i.
func keepersOf(claims []claim, i int) []claim {
	if a := keptAround(claims, i); a >= 0 {
		return claims[a : a+1]
	}
	var out []claim
	for _, c := range claims[i+1:] {
		if !c.CIDR.Overlaps(claims[i].CIDR) {
			break
		}
		if c.kept {
			out = append(out, c)
		}
	}
	return out
}

// overlap tells the node whose claim is lost, and those that keep theirs.
func overlap(lost claim, keepers []claim) []world.Problem {
	const field, hint = "spec.podCIDRs", "give every node a pod CIDR of its own"
	named := keepers[:min(len(keepers), quote.Few)]
	var with []string
	var out []world.Problem
	for _, k := range named {
		with = append(with, fmt.Sprintf("%s of Node %s", k.CIDR, k.Node))
		out = append(out, world.Problem{Object: "Node " + k.Node, Field: field, Hint: hint,
			Reason: fmt.Sprintf("%s is claimed by Node %s too, with %s; Node %s keeps it", k.CIDR, lost.Node, lost.CIDR, k.Node)})
	}
	keeps := "which keeps it"
	if len(keepers) > 1 {
		keeps = "which keep theirs"
	}
	return append(out, world.Problem{Object: "Node " + lost.Node, Field: field, Hint: hint,
		Reason: fmt.Sprintf("%s overlaps %s, %s", lost.CIDR, quote.Some(with, len(keepers)), keeps)})
}
