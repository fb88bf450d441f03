package source

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/world"
)

// Keeps is what is kept of claims, by CIDR: none of them is in another.
var Keeps = journal.Kind{Name: "claims", Changed: changedClaims, Read: readClaims,
	Old: &journal.Old{Member: "claims", Read: oldClaims, Write: claimsForOld}}

// A keptClaim is the value of a CIDR.
type keptClaim struct {
	Node string `json:"node"`
}

func changedClaims(last, now *world.Allocations, tell func(journal.Change)) {
	before, after := map[netip.Prefix]string{}, map[netip.Prefix]string{}
	if last != nil && last.Claims == now.Claims || now.Claims == nil {
		return
	}
	if last != nil && last.Claims != nil {
		for _, c := range last.Claims.List {
			before[c.CIDR] = c.Node
		}
	}
	for _, c := range now.Claims.List {
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
func readClaims(values []journal.Value, _ []string) (*world.Allocations, []journal.Damage) {
	var out world.Claims
	var wrong []journal.Damage
	for _, v := range values {
		var kept keptClaim
		cidr, err := netip.ParsePrefix(v.Key)
		if err != nil || json.Unmarshal(v.JSON, &kept) != nil || kept.Node == "" {
			wrong = append(wrong, journal.Damage{Key: v.Key, Why: "it is no claim"})
			continue
		}
		out.List = append(out.List, world.Claim{Node: kept.Node, CIDR: cidr})
	}
	if len(out.List) == 0 {
		return nil, wrong
	}
	slices.SortFunc(out.List, func(a, b world.Claim) int { return a.CIDR.Compare(b.CIDR) })
	return &world.Allocations{Claims: &out}, wrong
}

func oldClaims(text json.RawMessage) ([]journal.Value, error) {
	var list []world.Claim
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	var out []journal.Value
	changedClaims(nil, &world.Allocations{Claims: &world.Claims{List: list}}, func(c journal.Change) {
		v, _ := journal.ValueOf(c.Key, time.Time{}, c.Value) // a string has no error
		out = append(out, v)
	})
	return out, nil
}

func claimsForOld(values []journal.Value) (any, error) {
	a, _ := readClaims(values, nil)
	if a == nil {
		return nil, nil
	}
	return a.Claims.List, nil
}
