package forward_test

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature/forward"
	"fairlead.dev/fairlead/internal/scenario"
	"fairlead.dev/fairlead/internal/world"
)

// droppedBy is a node of both families on which filters drop.
func droppedBy(mode world.OverlayMode, drops ...world.ForwardDrop) *world.World {
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	return &world.World{
		Node: &world.Node{Name: "n1", PodCIDRs: cidrs}, Kernel: &world.Kernel{ForwardDrops: drops},
		Config: &world.Config{Overlay: world.Overlay{Mode: mode}},
	}
}

// The doctor names each filter once. What only begins outside is a warning, and no
// event, unless other nodes' pods come that way.
func TestFindingsAndEvents(t *testing.T) {
	docker := world.Filter{Family: "ip", Table: "filter", Chain: "FORWARD"}
	site := world.Filter{Family: "inet", Table: "site", Chain: "forward"}
	drops := []world.ForwardDrop{
		{Filter: docker, Way: world.BetweenPods, By: "its policy"}, {Filter: docker, Way: world.ToPods, By: "its policy"},
		{Filter: site, Way: world.ToPods, By: "rule 1"}, {Filter: site, IPv6: true, Way: world.ToPods, By: "rule 1"},
	}
	const accept = "set acceptForwarding: true in the AgentConfig, or by hand: iptables -I FORWARD -i fl-+ -j ACCEPT; iptables -I FORWARD -o fl-+ -j ACCEPT"
	for _, c := range []struct {
		mode   world.OverlayMode
		drops  []world.ForwardDrop
		want   []doctor.Status
		events int
	}{
		{world.VXLAN, nil, []doctor.Status{doctor.OK}, 0},
		{world.VXLAN, drops, []doctor.Status{doctor.Fail, doctor.Warn}, 1},
		{world.Direct, drops, []doctor.Status{doctor.Fail, doctor.Fail}, 2},
		{world.Hybrid, drops[2:], []doctor.Status{doctor.Fail}, 1},
	} {
		w := droppedBy(c.mode, c.drops...)
		findings := doctor.Run(t.Context(), doctor.Node{Subject: doctor.Subject{World: w}}, forward.Feature.Checks)
		var got []doctor.Status
		for _, f := range findings {
			got = append(got, f.Status)
			if f.Object == "chain FORWARD of table ip filter (iptables-nft)" && f.Hint != accept {
				t.Errorf("the cure is %q", f.Hint)
			}
		}
		if events := forward.Feature.Render()(w).Events; !slices.Equal(got, c.want) || len(events) != c.events {
			t.Errorf("%s: %v, want %v; %d events, want %d: %v", c.mode, got, c.want, len(events), c.events, events)
		}
	}
}

func Test(t *testing.T) { scenario.Run(t, forward.Feature) }
