package reach

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// How often it is asked whether pods' addresses pass between the nodes.
const (
	crossEvery = 200 * time.Millisecond
	crossAgain = time.Minute // the same way, at the earliest
)

// crossSettled is for how long all ways have to pass before they count as passing:
// whoever makes a network may not be done with it.
const crossSettled = 2 * time.Minute

// dropsAfter is how often in turn nothing comes back until a way counts as dropping.
const dropsAfter = 2

// A crossing is what is known of one way past the tunnel.
type crossing struct {
	Crossing
	asked         time.Time // zero: not yet
	passes, drops bool      // neither: the peer answers nobody
	misses        int       // in turn
}

// crossers are the ways there are now, with what was known of those that stay.
func crossers(known []*crossing, all []Crossing) []*crossing {
	was := make(map[Path]*crossing, len(known))
	for _, k := range known {
		was[k.Path] = k
	}
	var out []*crossing
	for _, c := range all {
		now := &crossing{Crossing: c}
		if k := was[c.Path]; k != nil {
			*now = *k
			now.Crossing = c
		}
		out = append(out, now)
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// PodsPass reports whether packets with pods' addresses pass the network between the
// nodes: all ways were asked about, some pass, and none drops them, for a while. A peer that
// answers nobody says nothing about it. While some were not asked about yet, or there is
// no way, it is as it was before.
func (w *Watch) PodsPass() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	some, unasked := false, len(w.crossings) == 0
	for _, c := range w.crossings {
		if c.drops {
			w.passed, w.passing = false, time.Time{}
			return false
		}
		some, unasked = some || c.passes, unasked || c.asked.IsZero()
	}
	switch {
	case unasked || some && w.passed:
	case !some:
		w.passed, w.passing = false, time.Time{}
	case w.passing.IsZero():
		w.passing = time.Now()
	default:
		w.passed = time.Since(w.passing) >= crossSettled
	}
	return w.passed
}

// cross asks until ctx is done, about one way at a time.
func (w *Watch) cross(ctx context.Context) {
	tick := time.NewTicker(crossEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c := w.nextCrossing(time.Now())
		if c == nil {
			continue
		}
		limited, stop := context.WithTimeout(ctx, patience)
		err := w.askCrossing(limited, c.Crossing)
		stop()
		if ctx.Err() == nil {
			w.mu.Lock()
			c.heard(time.Now(), err)
			w.mu.Unlock()
		}
	}
}

// nextCrossing is the way that was asked about longest ago, if that is long enough.
func (w *Watch) nextCrossing(now time.Time) *crossing {
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest *crossing
	for _, c := range w.crossings {
		if c.misses > 0 {
			return c // what is in doubt is asked again at once
		}
		if oldest == nil || c.asked.Before(oldest.asked) {
			oldest = c
		}
	}
	if oldest == nil || now.Sub(oldest.asked) < crossAgain {
		return nil
	}
	return oldest
}

// heard notes what came of a question.
func (c *crossing) heard(now time.Time, err error) {
	if err != nil && !errors.Is(err, ErrAway) {
		if c.misses++; c.misses < dropsAfter {
			return
		}
	}
	c.asked, c.misses = now, 0
	c.passes, c.drops = err == nil, err != nil && !errors.Is(err, ErrAway)
}
