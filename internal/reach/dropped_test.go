package reach_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature/overlay"
	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/reach"
)

// On real packets: a peer whose underlay drops the overlay's port is lost by name, and
// found again.
func TestADroppedOverlayPortIsNoticed(t *testing.T) {
	t.Parallel()
	a, b := cluster.NewNode(t, 1), cluster.NewNode(t, 2)
	cluster.Join(a, b)
	b.Apply(v1alpha1.AgentConfigSpec{}, a)
	w := reach.New(false)
	w.AskBy(func(ctx context.Context, p reach.Path, size int) error {
		return netns.Do(a.Path, func() error { return icmp.Echo(ctx, icmp.Way{From: p.From, To: p.To}, size) })
	})
	in := a.Apply(v1alpha1.AgentConfigSpec{}, b)
	w.Set(&reach.Ways{Paths: overlay.Paths(in), Size: in.PodMTU(), Peers: 1})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ask := func(times int) reach.Verdict {
		for range times {
			now = now.Add(30 * time.Second)
			w.AskAll(t.Context(), now)
		}
		v, _ := w.Verdict(now)
		return v
	}
	until := func(want reach.State) reach.Verdict {
		deadline := time.Now().Add(time.Minute) // IPv6 comes up by itself
		v := ask(reach.FoundAfter)
		for v.State != want && time.Now().Before(deadline) {
			v = ask(1)
		}
		if v.State != want {
			t.Fatalf("%+v, want state %d", v, want)
		}
		return v
	}
	until(reach.All)
	b.Run("nft", "add table inet underlay; add chain inet underlay input { type filter hook input priority -300; }; add rule inet underlay input udp dport 4789 drop")
	if v := until(reach.Lost); !strings.Contains(v.Message, "come back from n2: ") {
		t.Errorf("%+v does not name n2", v)
	}
	b.Run("nft", "delete table inet underlay")
	until(reach.All)
}
