// Package reach asks the peers in turn whether packets of full size reach their
// pods' network and come back.
//
// The kernels answer, not the agents: a peer whose agent is away is reached all
// the same. Neighbours and forwarding entries are permanent, so that nothing in
// the kernel tells of a peer that is silent; one has to ask. What that costs is
// bounded whatever the size of the cluster: one path at a time, ten in a second.
package reach

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/icmp"
)

const (
	every    = 100 * time.Millisecond // a path is asked
	again    = 15 * time.Second       // the same one, at the earliest
	patience = 2 * time.Second        // for an answer, repeated questions included
)

// A Watch knows which peers answered when they were asked last.
type Watch struct {
	ask func(ctx context.Context, p Path, size int) error

	mu      sync.Mutex
	overlay bool // there is one
	peers   int
	size    int // of packets, in bytes
	list    []*entry

	askCrossing func(context.Context, Crossing) error
	crossings   []*crossing
	passed      bool      // pods' addresses did, when all ways were asked about last
	passing     time.Time // since when they do, while that is not known for long

	suspects bool    // the next question is a suspect's, if there is one
	told     Verdict // and since when
	toldAt   time.Time
}

// An entry is what is known of one path.
type entry struct {
	Path
	asked  time.Time // zero: not yet
	answer answer

	misses, hits int       // in turn
	missing      time.Time // when the first of the misses was asked
	found, lost  bool      // for certain; neither: not yet
}

type answer int

const (
	unasked answer = iota // or no answer is due yet
	reached
	silent
)

// New prepares a watch that has nobody to ask. Whether pods' addresses pass between the
// nodes is as somebody knew before, until it was asked.
func New(passed bool) *Watch {
	return &Watch{passed: passed, askCrossing: func(ctx context.Context, c Crossing) error { return c.Ask(ctx) }, ask: func(ctx context.Context, p Path, size int) error {
		return icmp.Echo(ctx, icmp.Way{From: p.From, To: p.To}, size)
	}}
}

// Ways are whom there is to ask.
type Ways struct {
	Paths     []Path
	Crossings []Crossing
	Size      int // of packets, in bytes
	Peers     int
}

// Set changes who is asked; nil: nobody, since there is no  What is known of
// paths that stay is kept, unless packets have another size now.
func (w *Watch) Set(now *Ways) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := map[Path]*entry{}
	for _, e := range w.list {
		if now != nil && now.Size != w.size { // whether it is lost stays so until it answers
			e = &entry{Path: e.Path, missing: e.missing, misses: e.misses, found: e.found, lost: e.lost}
		}
		known[e.Path] = e
	}
	w.list = nil
	if w.overlay = now != nil; now == nil {
		w.crossings = nil
		return
	}
	w.size, w.peers = now.Size, now.Peers
	w.crossings = crossers(w.crossings, now.Crossings)
	for _, p := range now.Paths {
		e, ok := known[p]
		if !ok {
			e = &entry{Path: p}
		}
		w.list = append(w.list, e)
	}
	// Nodes that start together must not all ask the same one.
	rand.Shuffle(len(w.list), func(i, j int) { w.list[i], w.list[j] = w.list[j], w.list[i] })
}

// Run asks until ctx is done.
func (w *Watch) Run(ctx context.Context) {
	var asking sync.WaitGroup
	defer asking.Wait()
	asking.Go(func() { w.cross(ctx) })
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if e, size := w.next(time.Now()); e != nil {
			asking.Go(func() { w.try(ctx, e, size) })
		}
	}
}

// next is the path that was asked longest ago, if that is long enough; every other
// time one that is suspect.
func (w *Watch) next(now time.Time) (*entry, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest, suspect *entry
	for _, e := range w.list {
		if oldest == nil || e.asked.Before(oldest.asked) {
			oldest = e
		}
		if e.suspect() && now.Sub(e.asked) >= again && (suspect == nil || e.asked.Before(suspect.asked)) {
			suspect = e
		}
	}
	if w.suspects = !w.suspects; w.suspects && suspect != nil {
		oldest = suspect
	}
	if oldest == nil || now.Sub(oldest.asked) < again {
		return nil, 0
	}
	oldest.asked = now
	return oldest, w.size
}

func (w *Watch) try(ctx context.Context, e *entry, size int) {
	limited, stop := context.WithTimeout(ctx, patience)
	defer stop()
	w.mu.Lock()
	asked := e.asked
	w.mu.Unlock()
	err := w.ask(limited, e.Path, size)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e.heard(asked, err)
}

// Status counts the peers. One that is silent in one family is unreachable.
type Status struct{ Reached, Unreachable, Unasked int }

// Status is what is known now.
func (w *Watch) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	peers := map[string]answer{}
	for _, e := range w.list {
		was, known := peers[e.Peer]
		switch {
		case !known || e.answer == silent:
			peers[e.Peer] = e.answer
		case e.answer == unasked && was == reached:
			peers[e.Peer] = unasked
		}
	}
	var s Status
	for _, a := range peers {
		switch a {
		case reached:
			s.Reached++
		case silent:
			s.Unreachable++
		case unasked:
			s.Unasked++
		}
	}
	return s
}
