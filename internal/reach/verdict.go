package reach

import (
	"fmt"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/quote"
)

// A peer is lost once it was silent so often in turn and for so long, and found again
// once it answered so often in turn: neither a packet that is lost nor one that gets
// through is told, nor a peer that restarts.
const (
	lostAfter    = 3
	lostLonger   = time.Minute
	foundAfter   = 3
	sayAgain     = time.Minute           // who is lost, at the earliest
	sayAgainPeer = 20 * time.Millisecond // for each peer: every node of a cluster may have news at one time
)

// heard notes an answer to what was asked at a time, or that none came.
func (e *entry) heard(asked time.Time, err error) {
	if err == nil {
		e.answer, e.misses, e.hits = reached, 0, e.hits+1
		e.lost = e.lost && e.hits < foundAfter
		e.found = !e.lost
		return
	}
	if e.answer, e.hits, e.misses = silent, 0, e.misses+1; e.misses == 1 {
		e.missing = asked
	}
	e.lost = e.lost || e.misses >= lostAfter && asked.Sub(e.missing) >= lostLonger
	e.found = e.found && !e.lost
}

// suspect reports whether e is asked with priority: what is the matter with it is not
// known yet.
func (e *entry) suspect() bool { return !e.lost && e.misses > 0 || e.lost && e.hits > 0 }

// State says whether peers are reached.
type State int

// The states of all peers together.
const (
	Unknown State = iota // nobody has answered yet, and nobody is lost
	All                  // that were asked
	Lost                 // some are
)

// A Verdict is what is known of the peers, in words.
type Verdict struct {
	State   State
	Reason  string // one CamelCase word
	Message string
}

// Verdict is what is known at a time; false: there is no overlay. While some are lost,
// who they are is said again only now and then.
func (w *Watch) Verdict(now time.Time) (Verdict, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.overlay {
		return Verdict{}, false
	}
	v := w.judge()
	if v.State == Lost && w.told.State == Lost && now.Sub(w.toldAt) < max(sayAgain, sayAgainPeer*time.Duration(w.peers)) {
		return w.told, true
	}
	if v != w.told {
		w.told, w.toldAt = v, now
	}
	return v, true
}

func (w *Watch) judge() Verdict {
	var lost []string
	found := false
	for _, e := range w.list {
		found = found || e.found
		if e.lost {
			lost = append(lost, e.Peer)
		}
	}
	slices.Sort(lost)
	lost = slices.Compact(lost)
	switch {
	case len(lost) > 0:
		return Verdict{Lost, "PeersUnreachable", fmt.Sprintf("packets of full size do not come back from %s: does the overlay's UDP port pass between the nodes, do packets of its MTU?",
			quote.Some(lost, len(lost)))}
	case len(w.list) == 0:
		return Verdict{All, "NoPeers", "there is no peer with pods"}
	case !found:
		return Verdict{Unknown, "NotAskedYet", "no peer has answered yet, and none was silent for long"}
	}
	return Verdict{All, "PeersAnswer", "packets of full size come back from all peers that were asked"}
}
