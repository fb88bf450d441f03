package scenario

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
)

// file proves that every feature makes the same of a world that was written and read
// back, and that a state that was says the same and differs in nothing.
func (s *scenario) file(t *testing.T) {
	w, _ := s.build(t, s.objects, inText)
	got := feature.NewRenderer(all.Features).Render(w)
	back := throughFile(t, dump.Dump{World: w, State: got.State})
	rendered := feature.NewRenderer(all.Features).Render(back.World)
	read := rendered
	read.State = back.State
	for from, r := range map[string]feature.Rendered{"a world": rendered, "a state": read} {
		if d := cmp.Diff(wants(got), wants(r)); d != "" {
			t.Errorf("%s: %s that was written and read back (-before +after):\n%s", s.path, from, d)
		}
		for _, c := range []datapath.Changes{datapath.DiffStates(got.State, r.State), datapath.DiffStates(r.State, got.State)} {
			if !c.Empty() {
				t.Errorf("%s: %s that was written and read back changes:\n%s", s.path, from, c)
			}
		}
	}
}

func throughFile(t *testing.T, d dump.Dump) dump.Dump {
	t.Helper()
	var b bytes.Buffer
	if err := dump.Write(&b, d); err != nil {
		t.Fatal(err)
	}
	back, err := dump.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}
