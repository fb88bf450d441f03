package status

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// report is one of node n1 whose condition Ready has the status.
func report(ready metav1.ConditionStatus) Report {
	return Report{Node: &v1alpha1.FairleadNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "FairleadNode"},
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status: v1alpha1.FairleadNodeStatus{Conditions: []metav1.Condition{
			{Type: "Ready", Status: ready, Reason: "Test"}, {Type: "Other", Status: metav1.ConditionTrue, Reason: "Test"},
		}},
	}}
}

func TestAConditionKeepsItsTimeUntilItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n1.json")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		NewFiles(path, slog.Default()).Report(report(metav1.ConditionTrue))
		time.Sleep(time.Hour)
		NewFiles(path, slog.Default()).Report(report(metav1.ConditionFalse)) // another agent
		for _, c := range inFile(t, path).Status.Conditions {
			want := began
			if c.Type == "Ready" {
				want = began.Add(time.Hour)
			}
			if !c.LastTransitionTime.Time.Equal(want) {
				t.Errorf("%s is as it is since %s, want %s", c.Type, c.LastTransitionTime, want)
			}
		}
	})
}

func TestAFileIsWrittenWhenSomethingButCountersChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n1.json")
	f := NewFiles(path, slog.Default())
	r := report(metav1.ConditionTrue)
	f.Report(r)
	r.Node = r.Node.DeepCopy()
	r.Node.Status.Counters.Peers = 7
	f.Report(r)
	if n := inFile(t, path); n.Status.Counters.Peers != 0 {
		t.Error("written for a counter")
	}
	r.Node = r.Node.DeepCopy()
	r.Node.Status.AppliedRevision = 1
	f.Report(r)
	if n := inFile(t, path); n.Status.AppliedRevision != 1 || n.Status.Counters.Peers != 7 {
		t.Errorf("%+v", n.Status)
	}
}

func inFile(t *testing.T, path string) v1alpha1.FairleadNode {
	t.Helper()
	var n v1alpha1.FairleadNode
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}
