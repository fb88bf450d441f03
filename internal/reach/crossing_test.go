package reach

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ofTunnels are the same where peers are reached by the tunnel, in IPv4.
func ofTunnels(peers int) *Ways {
	out := ofPeers(peers)
	for i := range peers {
		path := out.Paths[2*i]
		path.To = netip.AddrFrom4([4]byte{192, 168, 100, byte(i + 2)})
		out.Crossings = append(out.Crossings, Crossing{Path: path})
	}
	return out
}

// Pods' addresses pass between the nodes when all ways were asked about, one passes and
// none drops them; one question without an answer says nothing, nor does a peer that is
// away, nor one that comes, until it was asked about.
func TestPodsPassWhereEveryWayDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		answers := map[string]error{} // by peer
		lost := map[string]int{}      // questions that get no answer
		w := New(false)
		w.ask = func(context.Context, Path, int) error { return nil }
		w.askCrossing = func(_ context.Context, c Crossing) error {
			mu.Lock()
			defer mu.Unlock()
			if lost[c.Peer] > 0 {
				lost[c.Peer]--
				return errors.New("no answer")
			}
			return answers[c.Peer]
		}
		set := func(peer string, err error) { mu.Lock(); answers[peer] = err; mu.Unlock() }
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		step := func(what string, want bool, change func()) {
			t.Helper()
			change()
			for range 60 { // as an agent's turns look at it
				time.Sleep(3 * time.Second)
				w.PodsPass()
			}
			synctest.Wait()
			if got := w.PodsPass(); got != want {
				t.Errorf("%s: pods pass is %v, want %v", what, got, want)
			}
		}
		step("nobody is there", false, func() {})
		if started := New(true); !started.PodsPass() {
			t.Error("what was known before is forgotten at the start")
		}
		step("all pass", true, func() { w.Set(ofTunnels(3)) })
		step("some answers are lost", true, func() { mu.Lock(); lost["n2"], lost["n4"] = 1, 1; mu.Unlock() })
		step("one drops", false, func() { set("n3", errors.New("no answer")) })
		step("it is away", true, func() { set("n3", ErrAway) })
		step("all are away", false, func() { set("n2", ErrAway); set("n4", ErrAway) })
		step("one is back", true, func() { set("n2", nil) })
		w.Set(ofTunnels(4))
		if !w.PodsPass() {
			t.Error("a peer that nobody asked about changes what was known")
		}
		step("it was asked about", true, func() {})
		step("one that comes drops", false, func() { set("n6", errors.New("no answer")); w.Set(ofTunnels(5)) })
		step("it passes", true, func() { set("n6", nil) })
		step("no way is the tunnel's", true, func() {
			x := ofTunnels(4)
			x.Crossings = nil
			w.Set(x)
		})
	})
}
