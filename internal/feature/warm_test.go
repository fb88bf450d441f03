package feature_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// said is all that was rendered, in text. Problems of different objects come in
// no particular order.
func said(r feature.Rendered) []string {
	out := []string{r.State.NFT(), r.State.IP()}
	for n := range r.Notes.All() {
		out = append(out, n.Pod.Name+n.Name+n.Value)
	}
	for _, e := range r.Events {
		out = append(out, e.Object+e.Reason+e.Subject+e.Message)
	}
	for _, one := range r.Reports {
		out = append(out, one.Object+one.Type+one.Reason+one.Message)
	}
	var problems []string
	for _, p := range r.Problems {
		problems = append(problems, p.String())
	}
	slices.Sort(problems)
	return append(out, problems...)
}

// What a long-lived agent makes of its objects is what a new one would, whatever its
// features remember, and what did not change keeps its identity, so that nobody looks at
// it again. This goes for every feature on the list.
func TestColdAndWarmAreEqual(t *testing.T) {
	t.Parallel()
	h := newHistory(1, []string{"/run/netns/a", "/run/netns/b", "/run/netns/c"})
	warm := newLine()
	lastWorld, _ := warm.run(h.in)
	for i := range 3000 {
		h.step()
		if h.random.IntN(4) == 0 {
			h.in.TCP = h.tcp()
		}
		w, r := warm.run(h.in)
		coldWorld, cold := newLine().run(h.in)
		if place, d := differing(coldWorld, w); d != "" {
			t.Fatalf("step %d: the worlds differ in %s (-cold +warm):\n%s", i, place, d)
		}
		if d := cmp.Diff(said(cold), said(r)); d != "" {
			t.Fatalf("step %d (-cold +warm):\n%s", i, d)
		}
		for name, result := range r.Results {
			if !reflect.DeepEqual(cold.Results[name], result) { // as nearly never
				if d := cmp.Diff(cold.Results[name], result, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), cmp.Comparer(sameAllocations)); d != "" {
					t.Fatalf("step %d: %s (-cold +warm):\n%s", i, name, d)
				}
			}
		}
		checkIdentity(t, lastWorld, w)
		lastWorld = w
		h.in.Allocations, h.in.Before = r.Allocations, w.Peers
		if _, again := warm.run(h.in); !slices.Equal(again.State, r.State) && again.State.NFT() != r.State.NFT() || !sameAllocations(again.Allocations, r.Allocations) {
			t.Fatalf("step %d: what was given out is given back, and something else is rendered", i)
		}
		if i%17 == 0 {
			warm, h.in.Before = newLine(), nil // the agent is started anew
			if lastWorld, _ = warm.run(h.in); !reflect.DeepEqual(lastWorld.Peers, w.Peers) {
				t.Fatalf("step %d: the peers have %+v, and after a restart %+v", i, w.Peers, lastWorld.Peers)
			}
			h.in.Before = lastWorld.Peers
		}
	}
}

// differing is the first part in which worlds differ: none where a list is empty in one
// and missing in the other.
func differing(cold, warm *world.World) (place, d string) {
	was, is := reflect.ValueOf(cold).Elem(), reflect.ValueOf(warm).Elem()
	for i := range was.NumField() {
		if a, b := was.Field(i).Interface(), is.Field(i).Interface(); !reflect.DeepEqual(a, b) { // as nearly never
			if d := cmp.Diff(a, b, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty()); d != "" {
				return was.Type().Field(i).Name, d
			}
		}
	}
	return "", ""
}

func checkIdentity(t *testing.T, last, now *world.World) {
	t.Helper()
	for name, same := range map[string]bool{
		"node":   last.Node == nil || now.Node == nil || last.Node == now.Node || !last.Node.Equal(now.Node),
		"peers":  last.Peers == now.Peers || !reflect.DeepEqual(last.Peers, now.Peers),
		"config": last.Config == now.Config || !last.Config.Equal(now.Config),
		"kernel": last.Kernel == now.Kernel || !last.Kernel.Equal(now.Kernel),
		"tcp":    last.TCP == now.TCP || !last.TCP.Equal(now.TCP),
		"taken":  last.Taken == now.Taken || !last.Taken.Equal(now.Taken),
		"blocks": last.Allocations == nil || last.Allocations == now.Allocations || now.Allocations.Keeping(last.Allocations) != last.Allocations,
	} {
		if !same {
			t.Fatalf("%s did not change and is another value", name)
		}
	}
}

// sameAllocations reports whether a and b say the same.
func sameAllocations(a, b *world.Parts) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Keeping(b) == b
}
