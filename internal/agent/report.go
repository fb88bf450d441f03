package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature/overlay"
	"fairlead.dev/fairlead/internal/replace"
)

// report writes the node's report to its file, if it says something new.
// Directory mode has one file a node, with one writer.
func (a *Agent) report(s *Snapshot) error {
	if a.config.ReportFile == "" {
		return nil
	}
	node := nodeReport(a.config.Node, s)
	plain, err := json.Marshal(node)
	if err != nil || bytes.Equal(plain, a.reported) {
		return err
	}
	// A condition keeps its time until its status changes.
	conditions := slices.DeleteFunc(slices.Clone(a.conditions), func(old metav1.Condition) bool {
		return meta.FindStatusCondition(node.Status.Conditions, old.Type) == nil
	})
	for _, c := range node.Status.Conditions {
		meta.SetStatusCondition(&conditions, c)
	}
	node.Status.Conditions = conditions
	content, err := json.MarshalIndent(node, "", "  ")
	if err != nil {
		return err
	}
	if err := replace.File(a.config.ReportFile, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	a.reported, a.conditions = plain, conditions
	return nil
}

func nodeReport(name string, s *Snapshot) *v1alpha1.FairleadNode {
	n := &v1alpha1.FairleadNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "FairleadNode"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
	if s.World != nil && s.World.Node != nil && s.World.Config.Enabled(overlay.Feature.Name) {
		for _, e := range s.World.ReportedEnds() {
			n.Status.OverlayAddresses = append(n.Status.OverlayAddresses, e.Address.String())
		}
	}
	n.Status.ObservedRevision, n.Status.AppliedRevision = s.Observed, s.Applied
	for _, p := range s.Problems {
		n.Status.Problems = append(n.Status.Problems, v1alpha1.Problem(p))
	}
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Applied", Message: "the kernel holds what it should"}
	if !s.Ready {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "NotApplied", s.Reason
	}
	n.Status.Conditions = append(n.Status.Conditions, ready)
	for _, r := range s.Rendered.Reports {
		c := metav1.Condition{Type: r.Type, Status: metav1.ConditionFalse, Reason: r.Reason, Message: r.Message}
		if r.Status {
			c.Status = metav1.ConditionTrue
		}
		n.Status.Conditions = append(n.Status.Conditions, c)
	}
	return n
}
