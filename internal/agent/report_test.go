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
	got := n.report(n.snapshot.Load()).Node.Status.ObjectReports
	if want := []v1alpha1.ObjectReport{
		{Object: "AgentConfig default", Type: "Accepted", Status: "True", Reason: "Accepted", ObservedGeneration: 7},
		{Object: "AgentConfig n1", Type: "Accepted", Status: "True", Reason: "Accepted"},
	}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
