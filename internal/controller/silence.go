package controller

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/status"
)

// A Silence is an agent that has not been heard of for as long as it said that this
// may take at most.
type Silence struct {
	Node    string
	Renewed metav1.MicroTime // by the agent's clock, the last that was heard
	Lasts   time.Duration
}

// An ear hears agents by their Leases. Clocks of other machines may be wrong: what
// counts is how long a Lease has not changed before our eyes. And who sees nothing
// does not know: while no Lease comes at all, not even our own, which the leader
// renews every retryTime, nobody's silence counts.
type ear struct {
	mu    sync.Mutex
	now   func() time.Time
	heard map[string]*heard // by node
	since time.Time         // since when we have been hearing without a gap
	last  time.Time         // when any Lease came last
}

// heard is what was heard of one agent.
type heard struct {
	Silence
	at   time.Time // by our clock
	told bool      // it is written down that nobody knows
}

// deaf is after how long without any Lease we have not been hearing.
const deaf = 5 * retryTime

func newEar() *ear {
	e := &ear{now: time.Now}
	e.forget()
	return e
}

// forget begins anew: another may have led since.
func (e *ear) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard, e.last = map[string]*heard{}, time.Time{}
}

// hear takes in a Lease as it comes.
func (e *ear) hear(l *coordinationv1.Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if e.last.IsZero() || now.Sub(e.last) > deaf {
		e.since = now
	}
	e.last = now
	node, agents := strings.CutPrefix(l.Name, status.LeasePrefix)
	if !agents || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
		return
	}
	if h := e.heard[node]; h == nil || !h.Renewed.Equal(l.Spec.RenewTime) {
		lasts := max(time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second, leaseTime)
		e.heard[node] = &heard{Silence: Silence{node, *l.Spec.RenewTime, lasts}, at: now}
	}
}

// gone takes out a Lease that is no more: its Node went, and there is nobody to doubt.
func (e *ear) gone(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.heard, strings.TrimPrefix(name, status.LeasePrefix))
}

// silent are those that have not been heard of for too long, by name: all, and those
// of them of which that is not written down yet.
func (e *ear) silent() (all int, news []Silence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	if e.last.IsZero() || now.Sub(e.last) > deaf {
		return 0, nil
	}
	for _, node := range slices.Sorted(maps.Keys(e.heard)) {
		h := e.heard[node]
		from := h.at
		if e.since.After(from) {
			from = e.since
		}
		if now.Sub(from) <= h.Lasts {
			continue
		}
		all++
		if !h.told {
			news = append(news, h.Silence)
		}
	}
	return all, news
}

// wrote notes that a silence is written down, or that it has ended.
func (e *ear) wrote(s Silence) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.heard[s.Node]; h != nil && h.Renewed.Equal(&s.Renewed) {
		h.told = true
	}
}
