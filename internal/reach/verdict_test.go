package reach

import (
	"errors"
	"strings"
	"testing"
	"time"
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
	if w.Set(nil); w.list != nil {
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
