package datapath_test

import (
	"net/netip"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/netnstest"
)

// The kernel takes a rule that asks for less for one that asks for more
// (net/ipv4/fib_rules.c, fib4_rule_compare; net/ipv6/fib6_rules.c). Both come and go all the
// same, whichever was there before.
func TestRulesThatAskForLessComeBesideOthers(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"203.0.113.0/24", "2001:db8:9::/64"} {
		to := netip.MustParsePrefix(text)
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if to.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		less := route.Rule{Priority: 1000, From: all, Mark: 1 << 24, Mask: 0xf << 24, Table: 100}
		more, from := less, less
		more.To, from.From = to, to
		states := []datapath.State{nil}
		for _, rules := range [][]route.Rule{{less}, {more}, {from}, {more, less}, {less, more, from}} {
			states = append(states, datapath.State{{Rules: rules}})
		}
		for i, before := range states {
			for j, after := range states {
				host := netnstest.New(t)
				host.Do(func() error {
					if err := datapath.Apply(datapath.DiffStates(nil, before)); err != nil {
						t.Errorf("%s: %d: %v", to, i, err)
					}
					if err := datapath.Apply(datapath.DiffStates(before, after)); err != nil {
						t.Errorf("%s: from %d to %d: %v", to, i, j, err)
					}
					have, err := datapath.Read(after)
					if err != nil {
						return err
					}
					if left := datapath.Diff(have, after); !left.Empty() {
						t.Errorf("%s: from %d to %d this is left to do:\n%s", to, i, j, left)
					}
					return nil
				})
			}
		}
	}
}
