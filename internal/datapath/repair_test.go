package datapath_test

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What others did is told from what is wanted anew, also when both come at once.
func TestRepairsAreWhatOthersDid(t *testing.T) {
	t.Parallel()
	node, pod := netnstest.New(t), netnstest.New(t)
	held := wholeNode(pod.Path)
	apply(node, held)
	repairs := func(held, want datapath.State) []datapath.Kind {
		var kinds []datapath.Kind
		node.Do(func() error {
			have, err := datapath.Read(want)
			for _, r := range datapath.Repairs(have, held, want) {
				kinds = append(kinds, r.Kind)
			}
			return err
		})
		return slices.Compact(kinds)
	}
	other := wholeNode(pod.Path)
	other[0].Routes = append(other[0].Routes, route.Route{Dst: netip.MustParsePrefix("10.244.3.0/24")})
	other[0].Neighbours = slices.DeleteFunc(other[0].Neighbours, func(n neigh.Neighbour) bool { return n.Forward })
	if got := repairs(held, other); len(got) > 0 {
		t.Errorf("nobody did anything, and repairs of %v are counted", got)
	}
	for _, command := range []string{"ip route del 10.244.2.0/24", "nft flush ruleset", "sysctl net/ipv4/ip_forward=0"} {
		run(t, node, command)
	}
	want := []datapath.Kind{datapath.KindRules, datapath.KindSetting, datapath.KindRoute}
	if got := repairs(held, held); !slices.Equal(got, want) {
		t.Errorf("repairs of %v, want %v", got, want)
	}
	if got := repairs(held, other); !slices.Equal(got, want) {
		t.Errorf("repairs of %v beside what is new, want %v", got, want)
	}
	if got := repairs(nil, held); len(got) > 0 {
		t.Errorf("repairs of %v by an agent that held nothing", got)
	}
}
