package agent

import (
	"slices"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/report"
	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/world"
)

// report is what s tells the cluster.
func (a *Agent) report(s *Snapshot) status.Report {
	reports, use := a.helpers.report(s)
	n := report.Node{Name: a.config.Node, Version: a.config.Version, World: s.World, Configs: s.Configs,
		Ready: s.Ready, Reason: s.Reason, Observed: s.Observed, Applied: s.Applied, Capabilities: a.kernel.Capabilities,
		Counters: v1alpha1.Counters{Attachments: int64(len(a.book.Attachments().List)), DriftRepairs: a.repaired, SNATPortUsePercent: use},
		Reports:  slices.Concat(s.Rendered.Reports, reports), Problems: s.Problems, Notes: s.Rendered.Notes}
	if err := s.unready(); err != nil {
		n.Unready = err.Error()
	}
	return n.Report(&a.notes)
}

// isOwn reports whether r is about the node itself.
func (a *Agent) isOwn(r world.Report) bool { return report.IsOwn(a.config.Node, r) }
