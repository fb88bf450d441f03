package overlay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature/overlay"
	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// routed are two nodes with their addresses on the loopback, as with BGP to the host,
// and a router between them; mtus are those of the first node's uplink, and of the
// router's way to the second.
func routed(t *testing.T, six bool, mtus [2]string) (nodes [2]*cluster.Node, router *netnstest.Host) {
	t.Helper()
	router = netnstest.New(t)
	router.Sysctl("net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1")
	nodes = [2]*cluster.Node{cluster.NewNode(t, 1), cluster.NewNode(t, 2)}
	for i, n := range nodes {
		link := fmt.Sprintf("eth%d", i)
		netnstest.Wire(n.Host, cluster.Uplink, router, link)
		n.Run("ip", "link", "set", cluster.Uplink, "mtu", mtus[i])
		router.Run("ip", "link", "set", link, "mtu", mtus[i])
		n.Address(cluster.Uplink, fmt.Sprintf("fd00:9:%d::2/64", i)) // IPv6 looks for neighbours by the interface's own addresses
		n.Address("lo", n.Addresses[0].String()+"/32", n.Addresses[1].String()+"/128")
		router.Address(link, fmt.Sprintf("10.9.%d.1/24", i), fmt.Sprintf("fd00:9:%d::1/64", i))
		router.Run("ip", "route", "add", n.Addresses[0].String(), "dev", link)
		router.Run("ip", "-6", "route", "add", n.Addresses[1].String(), "via", fmt.Sprintf("fd00:9:%d::2", i))
		n.Run("ip", "route", "add", "default", "via", fmt.Sprintf("10.9.%d.1", i), "dev", cluster.Uplink, "onlink", "src", n.Addresses[0].String())
		n.Run("ip", "-6", "route", "add", "default", "via", fmt.Sprintf("fd00:9:%d::1", i), "dev", cluster.Uplink, "src", n.Addresses[1].String())
		if six {
			n.Addresses[0], n.Addresses[1] = n.Addresses[1], n.Addresses[0]
		}
	}
	return nodes, router
}

// fragments are those that a host made.
func fragments(h *netnstest.Host) (n string) {
	for line := range strings.SplitSeq(h.Run("nstat", "-asz", "IpFragCreates", "Ip6FragCreates"), "\n") {
		if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[0], "FragCreates") && f[1] != "0" {
			n += line
		}
	}
	return n
}

func fullSize(t *testing.T, n *cluster.Node, w *world.World) (found []doctor.Finding) {
	t.Helper()
	n.Do(func() error {
		found = overlay.FullSize(t.Context(), w)
		return nil
	})
	return found
}

// Pods get what the uplinks leave, wherever the node's address stands, and no packet of
// theirs is cut.
func TestPodsGetWhatTheUplinksLeave(t *testing.T) {
	t.Parallel()
	for _, six := range []bool{false, true} {
		nodes, _ := routed(t, six, [2]string{"1400", "1400"})
		pods, want := [2]*cluster.Pod{}, 1350
		if six {
			want = 1330
		}
		var w *world.World
		for i := range nodes {
			pods[i] = nodes[i].NewPod()
			w = nodes[i].Apply(v1alpha1.AgentConfigSpec{}, nodes[1-i])
		}
		if w.PodMTU() != want || w.TunnelMTU() != want {
			t.Errorf("pods have %d, the tunnel %d, want %d", w.PodMTU(), w.TunnelMTU(), want)
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		for i, from := range pods[0].Addresses {
			pods[0].Do(func() error {
				if err := icmp.Echo(ctx, icmp.Way{From: from, To: pods[1].Addresses[i]}, want); err != nil {
					t.Errorf("IPv6 outside %v, from %s: %v", six, from, err)
				}
				return nil
			})
		}
		for _, n := range nodes {
			if cut := fragments(n.Host); cut != "" {
				t.Errorf("a node made fragments: %s", cut)
			}
		}
		if found := fullSize(t, nodes[1], w); len(found) != 1 || found[0].Status != doctor.OK {
			t.Errorf("the doctor finds %+v", found)
		}
	}
}

// What the node cannot know of, a narrow way behind a router, the doctor finds out.
func TestTheDoctorSeesFragments(t *testing.T) {
	t.Parallel()
	nodes, router := routed(t, false, [2]string{"1500", "1400"})
	var w *world.World
	for i := range nodes {
		nodes[1-i].NewPod()
		w = nodes[1-i].Apply(v1alpha1.AgentConfigSpec{}, nodes[i])
	}
	found := fullSize(t, nodes[0], w)
	if fragments(router) == "" {
		t.Error("the router made no fragments")
	}
	if len(found) != 2 { // of each family of pods
		t.Fatalf("the doctor finds %+v", found)
	}
	for _, f := range found {
		if f.Status != doctor.Warn || f.Object != "Node n2" || !strings.Contains(f.Message, "fragmented: 1500 bytes do not pass unfragmented from 192.0.2.1 to 192.0.2.2") {
			t.Errorf("the doctor finds %+v", f)
		}
	}
}
