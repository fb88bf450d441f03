package scenario

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"fairlead.dev/fairlead/internal/feature"
)

// text proves that the objects mean what the file says, whatever order they
// come in.
func (s *scenario) text(t *testing.T, features []feature.Feature) {
	got := wants(s.render(t, features, inText))
	if *update {
		s.rewrite(t, got)
	}
	for _, f := range got {
		if d := cmp.Diff(s.want(f.Name), string(f.Data)); d != "" {
			t.Errorf("%s: %s (-want +got):\n%s", s.path, f.Name, d)
		}
	}
	again := wants(s.renderObjects(t, features, shuffled(s.objects), inText))
	if d := cmp.Diff(got, again); d != "" {
		t.Errorf("%s: the same objects in another order give something else:\n%s", s.path, d)
	}
}

// wants is what was rendered, as the files that hold it.
func wants(r feature.Rendered) []txtar.File {
	return []txtar.File{
		{Name: "want.nft", Data: []byte(r.State.NFT())},
		{Name: "want.ip", Data: []byte(r.State.IP())},
		{Name: "want.reports", Data: []byte(reports(r))},
		{Name: "want.annotations", Data: []byte(annotations(r))},
	}
}

// annotations are those of the node's pods, and those that they should not have.
func annotations(r feature.Rendered) string {
	var b strings.Builder
	for n := range r.Notes.All() {
		value := n.Value
		if value == "" {
			value = "none"
		}
		fmt.Fprintf(&b, "Pod %s/%s: %s: %s\n", n.Pod.Namespace, n.Pod.Name, n.Name, value)
	}
	return b.String()
}

// reports is what the cluster and the user are told, one sentence a line.
func reports(r feature.Rendered) string {
	var lines []string
	for _, one := range r.Reports {
		holds := "no"
		if one.Status {
			holds = "yes"
		}
		lines = append(lines, fmt.Sprintf("%s: %s: %s, %s: %s\n", one.Object, one.Type, holds, one.Reason, one.Message))
	}
	for _, p := range r.Problems {
		lines = append(lines, fmt.Sprintf("problem: %s\n", p))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// rewrite puts what was rendered in the place of what was wanted. Packets stay
// last: they are the point.
func (s *scenario) rewrite(t *testing.T, got []txtar.File) {
	t.Helper()
	var before, after []txtar.File
	for _, f := range s.archive.Files {
		switch {
		case f.Name == "packets":
			after = append(after, f)
		case !strings.HasPrefix(f.Name, "want."):
			before = append(before, f)
		}
	}
	for _, f := range got {
		if len(f.Data) > 0 {
			before = append(before, f)
		}
	}
	s.archive.Files = append(before, after...)
	if err := os.WriteFile(s.path, txtar.Format(s.archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
