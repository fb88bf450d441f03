package datapath_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/netnstest"
)

// proxying is a node that answers on eth0, which is not ours, for two addresses.
func proxying() datapath.State {
	return datapath.State{{Proxies: []neigh.Proxy{
		{Link: "eth0", Addr: netip.MustParseAddr("192.168.100.77")},
		{Link: "eth0", Addr: netip.MustParseAddr("fd00:100::77")},
	}}}
}

func proxies(t *testing.T, h *netnstest.Host) string {
	t.Helper()
	return run(t, h, "ip -4 neigh show proxy") + run(t, h, "ip -6 neigh show proxy")
}

func settled(h *netnstest.Host, s datapath.State) (settled bool) {
	h.Do(func() (err error) {
		settled, err = s.Settled()
		return err
	})
	return settled
}

// The kernel announces nothing of proxies, so whoever asks whether a state is settled
// is told, and Diff repairs it.
func TestProxiesAreKept(t *testing.T) {
	t.Parallel()
	for name, accident := range map[string]string{
		"deleted":        "ip neigh del proxy 192.168.100.77 dev eth0",
		"IPv6 deleted":   "ip -6 neigh del proxy fd00:100::77 dev eth0",
		"of a router":    "ip -6 neigh replace proxy fd00:100::77 dev eth0 protocol 157 router",
		"flushed":        "ip neigh flush proxy; ip -6 neigh flush proxy",
		"link down":      "ip link set eth0 down; ip link set eth0 up; ip address replace 192.168.100.1/24 dev eth0",
		"one of ours":    "ip neigh add proxy 192.168.100.78 dev eth0 protocol 157",
		"one of IPv6":    "ip -6 neigh add proxy fd00:100::78 dev eth0 protocol 157",
		"on another one": "ip neigh add proxy 192.168.100.77 dev lo protocol 157",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node, want := newUplink(t), proxying()
			if settled(node, want) {
				t.Error("what was never made is there")
			}
			apply(node, want)
			if !settled(node, want) {
				t.Error("not settled")
			}
			before := proxies(t, node)
			for command := range strings.SplitSeq(accident, "; ") {
				run(t, node, command)
			}
			if diff(node, want).Empty() {
				t.Error("not found")
			}
			if settled(node, want) && !strings.Contains(name, "one") { // what is too much is found by reading
				t.Error("settled after the accident")
			}
			apply(node, want)
			if d := cmp.Diff(before, proxies(t, node)); d != "" {
				t.Errorf("not as before (-before +after):\n%s", d)
			}
		})
	}
}

// The kernel has no two entries for one address on one link: ours is refused where
// another's is, and comes when that has gone. What somebody else took over is his.
func TestProxiesOfOthersAreTheirs(t *testing.T) {
	t.Parallel()
	for name, theirs := range map[string]string{"no protocol": "", "another protocol": " protocol 99", "a router": " protocol 99 router"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node, want := newUplink(t), proxying()
			run(t, node, "ip neigh add proxy 192.168.100.77 dev eth0"+theirs)
			run(t, node, "ip -6 neigh add proxy fd00:100::9 dev eth0"+theirs)
			before := proxies(t, node)
			failures := applyFailing(node, want)
			if len(failures) != 1 || failures[0].Kind != datapath.KindProxy || failures[0].Link != "eth0" || failures[0].Addr != want[0].Proxies[0].Addr ||
				!strings.Contains(failures.Error(), "somebody else has an entry for it") {
				t.Errorf("failures %+v", failures)
			}
			apply(node, nil)
			// State to state: as if nobody had looked since, and it had been ours.
			node.Do(func() error { return datapath.Apply(datapath.DiffStates(want, nil)) })
			if d := cmp.Diff(before, proxies(t, node)); d != "" {
				t.Errorf("others' (-before +after):\n%s", d)
			}
			run(t, node, "ip neigh del proxy 192.168.100.77 dev eth0")
			apply(node, want)
			if left := diff(node, want); !left.Empty() || !settled(node, want) {
				t.Errorf("still to do:\n%s", left)
			}
		})
	}
}
