package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func report(name string, revision int, addresses ...string) string {
	return fmt.Sprintf(`{"apiVersion": "fairlead.dev/v1alpha1", "kind": "FairleadNode", "metadata": {"name": %q},
"status": {"observedRevision": %d, "appliedRevision": %d, "ofAnotherVersion": true, "overlayAddresses": ["%s"]}}`,
		name, revision, revision, strings.Join(addresses, `", "`))
}

// What a report says of the agent's own work is no news to others: nobody reads
// it again, and nobody is woken, or agents would wake each other for ever.
func TestOnlyWhatConcernsOthersIsNewsInAReport(t *testing.T) {
	objects, reports := t.TempDir(), t.TempDir()
	write(t, objects, "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	write(t, reports, "a.json", report("a", 1, "10.9.0.1"))
	write(t, reports, "b.json", report("b", 1, "10.9.0.2"))
	write(t, reports, "other.yaml", strings.ReplaceAll(someNode, "NAME", "not an object here"))
	d := New(objects).WithReports(reports)
	first := read(t, d)
	if len(first.Reports) != 2 || len(first.Nodes) != 1 || len(first.Problems) != 0 {
		t.Fatalf("%d reports, %d nodes, %v", len(first.Reports), len(first.Nodes), first.Problems)
	}
	for i := range 3 {
		write(t, reports, "b.json.new", "half a report")
		write(t, reports, "b.json", report("b", i, "10.9.0.2"))
		for _, name := range []string{"b.json", "b.json.new"} {
			if d.reports.matters(filepath.Join(reports, name)) {
				t.Errorf("%s wakes others", name)
			}
		}
		if now := read(t, d); now != first {
			t.Error("a report with nothing new makes other objects")
		}
	}
	announced := watched(t, d)
	for len(announced) > 0 {
		<-announced
	}
	write(t, reports, "b.json", report("b", 99, "10.9.0.2", "fd00:9::2"))
	<-announced
	now := read(t, d)
	if now == first || now.Revision != first.Revision || now.Reports[0] != first.Reports[0] || now.Reports[1] == first.Reports[1] {
		t.Errorf("revision %d after %d, reports %v after %v", now.Revision, first.Revision, now.Reports, first.Reports)
	}
}

// Nothing that was not there is needed, and what was said counts while the
// reports cannot be read.
func TestReportsThatAreNotThere(t *testing.T) {
	objects, reports := t.TempDir(), filepath.Join(t.TempDir(), "reports")
	write(t, objects, "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	d := New(objects).WithReports(reports)
	if o := read(t, d); len(o.Nodes) != 1 || len(o.Reports) != 0 {
		t.Errorf("%d nodes, %d reports", len(o.Nodes), len(o.Reports))
	}
	if err := os.Mkdir(reports, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, reports, "b.json", report("b", 1, "10.9.0.2"))
	if o := read(t, d); len(o.Reports) != 1 {
		t.Errorf("%d reports", len(o.Reports))
	}
	if err := os.RemoveAll(reports); err != nil {
		t.Fatal(err)
	}
	if o := read(t, d); len(o.Reports) != 1 {
		t.Errorf("%d reports after the directory went", len(o.Reports))
	}
}

func TestReportsBesideObjects(t *testing.T) {
	path := t.TempDir()
	write(t, path, "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	write(t, path, "a.json", report("a", 1, "10.9.0.1"))
	d := New(path).WithReports(path + "/")
	first := read(t, d)
	if len(first.Nodes) != 1 || len(first.Reports) != 1 || len(first.Problems) != 0 {
		t.Errorf("%d nodes, %d reports, %v", len(first.Nodes), len(first.Reports), first.Problems)
	}
	write(t, path, "a.json", report("a", 2, "10.9.0.1"))
	if now := read(t, d); now != first {
		t.Errorf("revision %d after %d: a report that says nothing new counts", now.Revision, first.Revision)
	}
}
