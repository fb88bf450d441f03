package datapath_test

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
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

// While an agent reads the kernel it may itself change what it reads. Only what is
// neither as before nor as after that is others' work.
func TestWhatChangesMeanwhileIsNoRepair(t *testing.T) {
	t.Parallel()
	node := netnstest.New(t)
	element := func(i int) nft.Element {
		return nft.Element{Key: nft.Addr(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))}
	}
	state := func(members ...int) datapath.State {
		var all []nft.Element
		for _, i := range members {
			all = append(all, element(i))
		}
		set := &nft.Set{Name: "s", Type: nft.IPv4Addr, Elements: nft.Sorted(all)}
		return datapath.State{{Tables: []*nft.Table{{Name: datapath.TablePrefix + "x", Sets: []*nft.Set{set}}}}}
	}
	before, after := state(1, 2, 3, 4), state(3, 4, 5, 6)
	repairs := func() (texts []string) {
		node.Do(func() error {
			have, err := datapath.Read(before)
			for _, r := range datapath.Repairs(have, before, after) {
				texts = append(texts, r.Text)
			}
			return err
		})
		return texts
	}
	apply(node, before)
	apply(node, state(2, 3, 4, 5)) // on the way from one to the other
	if got := repairs(); len(got) > 0 {
		t.Errorf("nobody did anything, and these are repairs: %q", got)
	}
	run(t, node, "nft delete element inet fairlead-x s { 10.0.0.3 }")
	run(t, node, "nft add element inet fairlead-x s { 10.0.0.9 }")
	want := []string{"delete element inet fairlead-x s { 10.0.0.9 }", "add element inet fairlead-x s { 10.0.0.3 }"}
	if got := repairs(); !slices.Equal(got, want) {
		t.Errorf("repairs %q, want %q", got, want)
	}
}
