package reach

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature/overlay"
	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// asked is what w says after every path was asked at intervals, and answered where
// there is a +.
func asked(w *Watch, answers string, every time.Duration) (states string) {
	now := begin
	for _, a := range answers {
		now = now.Add(every)
		for _, e := range w.list {
			e.asked = now
			e.heard(now, map[rune]error{'+': nil, '-': errors.New("no answer")}[a])
		}
		v, _ := w.Verdict(now)
		states += map[State]string{Unknown: "?", All: "+", Lost: "-"}[v.State]
	}
	return states
}

// Neither a lost packet nor a peer that restarts within a minute is told, and a peer
// that hardly answers does not come and go.
func TestAPeerIsLostAndFoundOnceItIsCertain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answers string
		every   time.Duration
		want    string
	}{
		{"+++", 15 * time.Second, "+++"},
		{"+-+--+---+", 15 * time.Second, "++++++++++"},
		{"+-----", 15 * time.Second, "+++++-"},
		{"-----", 15 * time.Second, "????-"},
		{"+---", 3 * time.Minute, "+++-"},
		{"-----+-+-++-+++", 15 * time.Second, "????----------+"},
		{"-----+++-", 15 * time.Second, "????---++"},
	} {
		w := New(false)
		w.Set(ofPeers(1))
		if got := asked(w, tt.answers, tt.every); got != tt.want {
			t.Errorf("answers %s every %s: %s, want %s", tt.answers, tt.every, got, tt.want)
		}
	}
}

// Of many that are lost a few are named, and that is not said anew all the time.
func TestTheLostAreNamedShortlyAndNotAllTheTime(t *testing.T) {
	t.Parallel()
	w := New(false)
	w.Set(ofPeers(200))
	asked(w, "++++", 15*time.Second)
	lose := func(n int, at time.Time) Verdict {
		for _, e := range w.list[:n] {
			e.lost = true
		}
		v, _ := w.Verdict(at)
		return v
	}
	now := begin.Add(time.Hour)
	first := lose(1, now)
	if first.State != Lost || first.Reason != "PeersUnreachable" || !strings.Contains(first.Message, w.list[0].Peer) {
		t.Errorf("%+v does not name %s", first, w.list[0].Peer)
	}
	if again := lose(len(w.list), now.Add(sayAgain/2)); again != first {
		t.Errorf("said again after half of the time: %+v", again)
	}
	if v := lose(len(w.list), now.Add(sayAgain)); !strings.Contains(v.Message, "and 192 more") || len(v.Message) > 300 {
		t.Errorf("%+v", v)
	}
	for _, e := range w.list {
		e.lost = false
	}
	if v, _ := w.Verdict(now.Add(sayAgain)); v.State != All {
		t.Errorf("they are found, and said is %+v", v)
	}
}

// Without an overlay there are no peers to speak of; without peers all is well; and
// what was not asked yet is not known.
func TestWithoutAnybodyToAsk(t *testing.T) {
	t.Parallel()
	w := New(false)
	none := ofPeers(1)
	none.Config = &world.Config{Overlay: world.Overlay{Mode: world.None, MTU: 1400}}
	if w.Set(none); w.list != nil {
		t.Errorf("%d paths without an overlay", len(w.list))
	}
	if v, ok := w.Verdict(begin); ok {
		t.Errorf("without an overlay: %+v", v)
	}
	w.Set(ofPeers(0))
	if v, ok := w.Verdict(begin); !ok || v.State != All || v.Reason != "NoPeers" {
		t.Errorf("without peers: %+v, %t", v, ok)
	}
	w.Set(ofPeers(1))
	if v, ok := w.Verdict(begin); !ok || v.State != Unknown {
		t.Errorf("before anybody was asked: %+v, %t", v, ok)
	}
}

// On real packets: a peer whose underlay drops the overlay's port is lost by name, and
// found again.
func TestADroppedOverlayPortIsNoticed(t *testing.T) {
	t.Parallel()
	a, b := cluster.NewNode(t, 1), cluster.NewNode(t, 2)
	cluster.Join(a, b)
	b.Apply(v1alpha1.AgentConfigSpec{}, a)
	w := New(false)
	w.ask = func(ctx context.Context, p overlay.Path, size int) error {
		return netns.Do(a.Path, func() error { return icmp.Echo(ctx, icmp.Way{From: p.From, To: p.To}, size) })
	}
	w.Set(a.Apply(v1alpha1.AgentConfigSpec{}, b))
	now := begin
	ask := func(times int) Verdict {
		for range times {
			now = now.Add(30 * time.Second)
			for _, e := range w.list {
				e.asked = now
				w.try(t.Context(), e, w.size)
			}
		}
		v, _ := w.Verdict(now)
		return v
	}
	reach := func(want State) Verdict {
		deadline := time.Now().Add(time.Minute) // IPv6 comes up by itself
		v := ask(foundAfter)
		for v.State != want && time.Now().Before(deadline) {
			v = ask(1)
		}
		if v.State != want {
			t.Fatalf("%+v, want state %d", v, want)
		}
		return v
	}
	reach(All)
	b.Run("nft", "add table inet underlay; add chain inet underlay input { type filter hook input priority -300; }; add rule inet underlay input udp dport 4789 drop")
	if v := reach(Lost); !strings.Contains(v.Message, "come back from n2: ") {
		t.Errorf("%+v does not name n2", v)
	}
	b.Run("nft", "delete table inet underlay")
	reach(All)
}
