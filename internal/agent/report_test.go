package agent

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
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

// What is about the node is a condition of it; what is about another object stands
// apart, and two objects may have conditions of one type.
func TestReportsGoToTheObjectsThatTheyAreAbout(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	s := *n.snapshot.Load()
	s.Rendered.Reports = []world.Report{
		{Object: "Egress a", Type: "Allocated", Status: true, Reason: "Allocated", Generation: 3, Message: "has 192.0.2.1"},
		{Object: "FairleadNode n1", Type: "Works", Unknown: true, Reason: "NotAsked", Message: "nobody asked"},
		{Object: "FairleadNode n2", Type: "Works", Reason: "Gone", Message: "of another node"},
		{Object: "Egress b", Type: "Allocated", Reason: "Exhausted"},
	}
	status := n.report(&s).Node.Status
	got := status.ObjectReports
	if want := []v1alpha1.ObjectReport{
		{Object: "Egress a", Type: "Allocated", Status: "True", Reason: "Allocated", ObservedGeneration: 3, Message: "has 192.0.2.1"},
		{Object: "FairleadNode n2", Type: "Works", Status: "False", Reason: "Gone", Message: "of another node"},
		{Object: "Egress b", Type: "Allocated", Status: "False", Reason: "Exhausted"},
	}; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	var types []string
	for _, c := range status.Conditions {
		types = append(types, c.Type+"="+string(c.Status))
	}
	if !slices.Equal(types, []string{"Ready=True", "Works=Unknown", "PeersReachable=Unknown"}) {
		t.Errorf("conditions %v", types)
	}
	n.tell(n.snapshot.Load(), &s)
	if log := n.log.String(); !strings.Contains(log, "nobody asked") || strings.Contains(log, "of another node") {
		t.Errorf("log:\n%s", log)
	}
	n.metrics.hold(s.Rendered.Reports, n.isOwn)
	w := httptest.NewRecorder()
	n.public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if page := w.Body.String(); !strings.Contains(page, `reason="NotAsked"`) || strings.Contains(page, `reason="Exhausted"`) {
		t.Errorf("metrics of other objects, or none of the node:\n%s", page)
	}
}
