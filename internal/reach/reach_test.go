package reach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// ofPeers are the ways to as many peers of n1, in both families.
func ofPeers(peers int) *Ways {
	out := &Ways{Size: 1400, Peers: peers}
	four := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 244, byte(n), 1}) }
	six := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%x::1", n)) }
	for n := 2; n < peers+2; n++ {
		name := fmt.Sprintf("n%d", n)
		out.Paths = append(out.Paths, Path{name, four(1), four(n)}, Path{name, six(1), six(n)})
	}
	return out
}

// What is asked in a second does not grow with the cluster, everybody gets his
// turn, and the silence of one family is the peer's.
func TestEveryPeerIsAskedInTurnAndWithinBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const peers, deaf = 200, 7
		var mu sync.Mutex
		asked, now, most := map[Path]int{}, 0, 0
		w := New(false)
		w.ask = func(ctx context.Context, p Path, size int) error {
			if size != 1400 {
				t.Errorf("asked with %d bytes", size)
			}
			mu.Lock()
			asked[p]++
			now++
			most = max(most, now)
			mu.Unlock()
			defer func() { mu.Lock(); now--; mu.Unlock() }()
			if p.To.Is6() && p.Peer <= fmt.Sprintf("n%d", 10+deaf-1) && len(p.Peer) == 3 { // n10 to n16
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		w.Set(ofPeers(peers))
		ctx, stop := context.WithCancel(t.Context())
		go w.Run(ctx)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		if s := w.Status(); len(asked) > 101 || s.Unasked < peers/2 {
			t.Errorf("%d paths were asked in ten seconds, and %+v is known", len(asked), s)
		}
		mu.Unlock()
		time.Sleep(35 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if s := w.Status(); s != (Status{Reached: peers - deaf, Unreachable: deaf}) || len(asked) != 2*peers {
			t.Errorf("%+v after %d paths were asked", s, len(asked))
		}
		if most > 20 {
			t.Errorf("%d were asked at one time", most)
		}
		stop()
	})
}

func TestWhatIsKnownStaysAndWhoWentIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := New(false)
		w.ask = func(context.Context, Path, int) error { return errors.New("no answer") }
		three, two := ofPeers(3), ofPeers(2)
		w.Set(three)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, step := range []struct {
			ways *Ways
			want Status
		}{
			{three, Status{Unreachable: 3}},
			{two, Status{Unreachable: 2}},
			{three, Status{Unreachable: 2, Unasked: 1}},
			{nil, Status{}},
		} {
			w.Set(step.ways)
			if s := w.Status(); s != step.want {
				t.Errorf("%+v, want %+v", s, step.want)
			}
		}
		stop()
		synctest.Wait()
	})
}

// Against the kernel: a peer that loses its link is silent, and answers again
// when it is back.
func TestASilentPeerIsNoticed(t *testing.T) {
	t.Parallel()
	near, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(near, "eth0", far, "eth0")
	near.Address("eth0", "10.244.1.1/16", "fd00:10:244:1::1/48")
	far.Address("eth0", "10.244.2.1/16", "fd00:10:244:2::1/48")
	w := New(false)
	asks := 0
	w.ask = func(ctx context.Context, p Path, size int) error {
		return netns.Do(near.Path, func() error { asks++; return icmp.Echo(ctx, icmp.Way{From: p.From, To: p.To}, size) })
	}
	w.Set(ofPeers(1))
	// look asks every path now, whenever it was asked last.
	look := func() Status {
		for _, e := range w.list {
			w.try(t.Context(), e, w.size)
		}
		return w.Status()
	}
	for _, state := range []string{"up", "down", "up"} {
		far.Run("ip", "link", "set", "eth0", state)
		if state == "up" {
			far.Run("ip", "-6", "address", "replace", "fd00:10:244:2::1/48", "dev", "eth0", "nodad")
		}
		want := Status{Reached: 1}
		if state == "down" {
			want = Status{Unreachable: 1}
		}
		deadline := time.Now().Add(time.Minute)
		for look() != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v after %d questions, want %+v", state, w.Status(), asks, want)
			}
		}
	}
}
