package source

import (
	"encoding/json"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/world"
)

// Contested are the claims, in the world.
const Contested = world.Own[Claims]("Claims")

// Claims are the pod CIDRs of peers that others claim too: who had one keeps it,
// also where the agent starts anew. Sorted by CIDR; hardly ever are there any.
type Claims struct{ List []Claim }

// A Claim is the pod CIDR that a node says it has.
type Claim struct {
	Node string       `json:"node"`
	CIDR netip.Prefix `json:"cidr"`
}

// Equal reports whether c and d say the same.
func (c *Claims) Equal(d *Claims) bool { return slices.Equal(c.List, d.List) }

// Keeps is what is kept of claims, by CIDR: none of them is in another.
var Keeps = journal.Kept[Claims]{Name: "claims", Own: Contested, Changed: changedClaims, Read: readClaims,
	Member: "claims", Old: func(c *Claims) any { return &c.List }}.Kind()

// A keptClaim is the value of a CIDR.
type keptClaim struct {
	Node string `json:"node"`
}

func changedClaims(last, now *Claims, tell func(journal.Change)) {
	before, after := map[netip.Prefix]string{}, map[netip.Prefix]string{}
	if last != nil {
		for _, c := range last.List {
			before[c.CIDR] = c.Node
		}
	}
	for _, c := range now.List {
		node, had := before[c.CIDR]
		if after[c.CIDR] = c.Node; !had || node != c.Node {
			tell(journal.Change{Key: c.CIDR.String(), Had: had, Value: keptClaim{c.Node}})
		}
	}
	for cidr := range before {
		if _, left := after[cidr]; !left {
			tell(journal.Change{Key: cidr.String(), Had: true})
		}
	}
}

// readClaims makes claims of values. A lost one is nobody's: the nodes claim anew.
func readClaims(values []journal.Value, _ []string) (*Claims, []journal.Damage) {
	var out Claims
	var wrong []journal.Damage
	for _, v := range values {
		var kept keptClaim
		cidr, err := netip.ParsePrefix(v.Key)
		if err != nil || json.Unmarshal(v.JSON, &kept) != nil || kept.Node == "" {
			wrong = append(wrong, journal.Damage{Key: v.Key, Why: "it is no claim"})
			continue
		}
		out.List = append(out.List, Claim{Node: kept.Node, CIDR: cidr})
	}
	if len(out.List) == 0 {
		return nil, wrong
	}
	slices.SortFunc(out.List, func(a, b Claim) int { return a.CIDR.Compare(b.CIDR) })
	return &out, wrong
}
