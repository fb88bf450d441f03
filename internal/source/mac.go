package source

import (
	"cmp"
	"fmt"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// ownAddresses takes hardware addresses away from nodes whose names lead to another's:
// names that collide can be looked for. It goes as with pod CIDRs: first comes the
// node itself, then who has one in force, then the older Node.
func ownAddresses(nodes []meaning, own string, before *world.Peers) []world.Problem {
	many := map[world.MAC]int{}
	for _, m := range nodes {
		many[m.node.MAC]++
	}
	if len(many) == len(nodes) {
		return nil
	}
	inForce := map[string]bool{}
	if before != nil {
		for _, n := range before.Nodes {
			inForce[n.Name] = n.MAC != world.MAC{}
		}
	}
	var order []int
	for i, m := range nodes {
		if many[m.node.MAC] > 1 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := nodes[i], nodes[j]
		return cmp.Or(first(a.node.Name == own, b.node.Name == own), first(inForce[a.node.Name], inForce[b.node.Name]),
			first(a.created != 0, b.created != 0), cmp.Compare(a.created, b.created), i-j)
	})
	owner := map[world.MAC]string{}
	var problems []world.Problem
	for _, i := range order {
		n := *nodes[i].node
		if owner[n.MAC] == "" {
			owner[n.MAC] = n.Name
			continue
		}
		problems = append(problems, world.Problem{Object: "Node " + n.Name, Field: "metadata.name",
			Reason: fmt.Sprintf("gives the MAC address that Node %s has already: nothing is sent to Node %s in the tunnel", owner[n.MAC], n.Name),
			Hint:   "give the node another name"})
		n.MAC = world.MAC{}
		nodes[i].node = &n
	}
	return problems
}
