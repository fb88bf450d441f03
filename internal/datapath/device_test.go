package datapath_test

import (
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/nft"
)

// A chain at a device comes once the device is there: kernels before 6.16 refuse it
// otherwise, and all rules with it.
func TestChainsAtDevicesComeBehindThem(t *testing.T) {
	state := datapath.State{{
		Links: []*link.Link{{Name: datapath.EgressSinkLink, IFB: true, MTU: 1400, MAC: [6]byte{2, 0, 0, 0, 0, 1}}},
		Tables: []*nft.Table{
			{Name: datapath.EgressLinkRules, Family: nft.NetDev, Chains: []*nft.Chain{
				{Name: "leaving", Type: nft.Filter, Hook: nft.Egress, Device: datapath.EgressSinkLink, Rules: []nft.Rule{{nft.Drop()}}}}},
			{Name: datapath.EgressRules},
		},
	}}
	lines := datapath.DiffStates(nil, state).Lines()
	place := func(what string) int {
		return slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, what) })
	}
	table, device, chain := place("add table inet "), place("ip link add "), place("add chain netdev ")
	if table < 0 || device < table || chain < device {
		t.Errorf("the table comes as %d, the device as %d, its chain as %d of\n%s", table, device, chain, strings.Join(lines, "\n"))
	}
}
