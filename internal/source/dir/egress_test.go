package dir

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

const someEgress = `apiVersion: fairlead.dev/v1alpha1
kind: Egress
metadata: {name: a}
spec: {appliedTo: {podSelector: {}}, egressIPs: [198.51.100.7]}
status: {addresses: [{ip: 198.51.100.7, number: 9, node: forged}]}
`

// place writes the file as the controller does: another takes the place of the last.
func place(t *testing.T, reports, content string) {
	t.Helper()
	write(t, reports, EgressStatus+".new", content)
	if err := os.Rename(filepath.Join(reports, EgressStatus+".new"), filepath.Join(reports, EgressStatus)); err != nil {
		t.Fatal(err)
	}
}

// What an agent goes by is what the controller last said, also while that cannot be read.
func TestTheControllersStatusOfAnEgressCounts(t *testing.T) {
	objects, reports := t.TempDir(), t.TempDir()
	write(t, objects, "a.yaml", someEgress)
	d := New(objects).WithReports(reports)
	announced := watched(t, d)
	if e := read(t, d).Egresses; len(e) != 1 || len(e[0].Status.Addresses) != 0 || len(read(t, d).Problems) != 0 {
		t.Fatalf("%v, problems %v", e, read(t, d).Problems)
	}
	node := func(want string) {
		t.Helper()
		e := read(t, d).Egresses[0]
		if a := e.Status.Addresses; len(a) != 1 || a[0].Node != want || a[0].Number != 5 || e.Spec.EgressIPs[0] != "198.51.100.7" {
			t.Errorf("addresses %v, want that of %s", a, want)
		}
	}
	for len(announced) > 0 {
		<-announced
	}
	place(t, reports, `{"a": {"addresses": [{"ip": "198.51.100.7", "number": 5, "node": "n1"}]}}`)
	<-announced
	node("n1")
	before := read(t, d)
	place(t, reports, `{"a": {"addresses": [{"ip": "198.51.100.7", "number": 5, "node": "n1"}]}, "gone": {}}`)
	if now := read(t, d); now.Egresses[0] != before.Egresses[0] {
		t.Error("an Egress of which nothing new is said is another")
	}
	place(t, reports, `half a fi`)
	node("n1")
	if err := os.Remove(filepath.Join(reports, EgressStatus)); err != nil {
		t.Fatal(err)
	}
	node("n1")
	place(t, reports, `{"a": {"addresses": [{"ip": "198.51.100.7", "number": 5, "node": "n2"}]}}`)
	node("n2")
}

// Without a controller the manifest says it: who looks at a directory sees what is
// written there.
func TestAManifestsStatusOfAnEgress(t *testing.T) {
	objects := t.TempDir()
	write(t, objects, "a.yaml", someEgress)
	if a := read(t, New(objects)).Egresses[0].Status.Addresses; len(a) != 1 || a[0].Node != "forged" {
		t.Errorf("addresses %v", a)
	}
	beside := New(objects).WithReports(objects)
	if a := read(t, beside).Egresses[0].Status.Addresses; len(a) != 0 {
		t.Errorf("addresses %v before the controller says any", a)
	}
	place(t, objects, `{"a": {"addresses": [{"ip": "198.51.100.7", "number": 5, "node": "n1"}]}}`)
	if a := read(t, beside).Egresses[0].Status.Addresses; len(a) != 1 || a[0].Node != "n1" {
		t.Errorf("addresses %v", a)
	}
}

// A part of what an Egress selects that cannot be read is no reason to select more.
func TestWhatCannotBeReadSelectsNobody(t *testing.T) {
	for _, applied := range []string{
		"{namespaceSelector: {}, podSelecter: {matchLabels: {app: web}}}",
		"{podSelector: {matchLabels: {app: 5}}}",
		"{podSelector: {matchLabel: {app: web}}}",
		"[]",
	} {
		objects := t.TempDir()
		write(t, objects, "a.yaml", strings.ReplaceAll(someEgress, "{podSelector: {}}", applied))
		o := read(t, New(objects))
		if e := o.Egresses; len(e) != 1 || e[0].Spec.AppliedTo != (v1alpha1.EgressAppliedTo{}) || e[0].Spec.EgressIPs[0] != "198.51.100.7" {
			t.Errorf("%s: %v", applied, e)
		}
		if !slices.ContainsFunc(o.Problems, func(p world.Problem) bool {
			return p.Field == "spec.appliedTo" && p.Reason == "cannot all be read: the Egress selects nobody" && p.Source != ""
		}) {
			t.Errorf("%s: problems %v", applied, o.Problems)
		}
	}
}
