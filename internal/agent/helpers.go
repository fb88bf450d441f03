package agent

import (
	"context"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/world"
)

// helpers are what runs of features beside the loop, in the order of the features.
type helpers []helper

type helper struct {
	feature string
	feature.Helper
}

func (a *Agent) startHelpers() (out helpers) {
	_, shows := a.config.Status.(*status.APIServer)
	h := feature.Host{
		Node: a.config.Node, Log: a.config.Log, Tell: a.events.Record, ShowsNotes: shows, Earlier: a.given,
		Wake:   func() { a.loop.Wake() },
		Before: a.settings.Before,
	}
	for _, f := range a.config.Features {
		if f.Start != nil {
			out = append(out, helper{f.Name, f.Start(h)})
		}
	}
	return out
}

// observed is what all of them say in the next world.
func (a *Agent) observed() (out []world.Part) {
	for _, h := range a.helpers {
		if h.Observe != nil {
			out = append(out, h.Observe()...)
		}
	}
	return out
}

// news reports whether helpers say something else than in the last world.
func (a *Agent) news() bool {
	w := a.snapshot.Load().World
	return w != nil && w.Observed.PartsOf(a.observed()) != w.Observed
}

// prepare readies all for what is about to be applied, and reports whether none wants
// it rendered anew.
func (hs helpers) prepare(s *Snapshot) bool {
	ready := true
	for _, h := range hs {
		if h.Prepare != nil && !h.Prepare(s.seenBy(h.feature)) {
			ready = false
		}
	}
	return ready
}

// applied tells all that the kernel's rules are what s wants.
func (hs helpers) applied(s *Snapshot) {
	for _, h := range hs {
		if h.Applied != nil {
			h.Applied(s.seenBy(h.feature))
		}
	}
}

// report is what they know, for the cluster.
func (hs helpers) report(s *Snapshot) (reports []world.Report, portUsePercent int64) {
	for _, h := range hs {
		if h.Report == nil {
			continue
		}
		r := h.Report(s.seenBy(h.feature))
		reports = append(reports, r.Reports...)
		portUsePercent = max(portUsePercent, r.PortUsePercent)
	}
	return reports, portUsePercent
}

func (hs helpers) checks(s *Snapshot) (out []doctor.Check) {
	for _, h := range hs {
		if h.Checks != nil {
			out = append(out, h.Checks(s.seenBy(h.feature))...)
		}
	}
	return out
}

func (hs helpers) close() {
	for _, h := range slices.Backward(hs) {
		if h.Close != nil {
			h.Close()
		}
	}
}

// run runs all of them until ctx is done.
func (hs helpers) run(ctx context.Context) error {
	ended := make(chan struct{}, len(hs))
	for _, h := range hs {
		go func() {
			if h.Run != nil {
				h.Run(ctx)
			}
			ended <- struct{}{}
		}()
	}
	for range hs {
		<-ended
	}
	return nil
}

// seenBy is what a feature's helper is shown of s.
func (s *Snapshot) seenBy(name string) feature.Seen {
	if s.World == nil || s.World.Node == nil || s.Rendered.Allocations == nil {
		return feature.Seen{}
	}
	w := *s.World
	w.Allocations = s.Rendered.Allocations
	return feature.Seen{World: &w, Result: s.Rendered.Results[name], Since: s.since}
}

// serveViews serves what helpers show.
func (a *Agent) serveViews(mux *http.ServeMux) {
	for _, h := range a.helpers {
		for name, show := range h.Views {
			a.watches.list(mux, name, func(r *http.Request) (any, error) {
				return show(r.Context(), a.snapshot.Load().seenBy(h.feature), r.URL.Query())
			})
		}
	}
}

// collector collects what helpers count when it is asked.
type collector struct{ *Agent }

// Describe is part of prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, h := range c.helpers {
		for _, d := range h.Metrics {
			ch <- d
		}
	}
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot.Load()
	for _, h := range c.helpers {
		if h.Collect != nil {
			h.Collect(s.seenBy(h.feature), ch)
		}
	}
}
