package agent

import (
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// What an agent tells of mistakes is about the settings that it names.
func TestTheReportNamesTheSettingsThatWereRead(t *testing.T) {
	n := newNode(t, nodes, strings.ReplaceAll(randomize, "default}", "default, generation: 7}"),
		strings.ReplaceAll(randomize, "default", "n2"), strings.ReplaceAll(randomize, "default", "n1"))
	n.mustTurn(t)
	status := n.report(n.snapshot.Load()).Node.Status
	got := status.ObservedConfigs
	if want := []v1alpha1.ObservedConfig{{Name: "default", Generation: 7}, {Name: "n1"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if want := []v1alpha1.ObjectReport{
		{Object: "AgentConfig default", Type: "Accepted", Status: "True", Reason: "Accepted", ObservedGeneration: 7},
		{Object: "AgentConfig n1", Type: "Accepted", Status: "True", Reason: "Accepted"},
	}; !slices.Equal(status.ObjectReports, want) {
		t.Errorf("%v, want %v", status.ObjectReports, want)
	}
}
