package world

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/sorted"
)

func someLabels(random *rand.Rand, most int) Labels {
	m := map[string]string{}
	for _, name := range []string{"app", "tier", "zone"} {
		if random.IntN(2) == 0 {
			m[name] = fmt.Sprint(random.IntN(most))
		}
	}
	return NewLabels(m)
}

// Whatever pods and Services do, selections are what comparing each with each finds; a
// new one makes the same; and those whose pods stay keep their pointers.
func TestSelectionsAreWhatComparingEachFinds(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	pods, services := map[Key]*Pod{}, map[Key]*Service{}
	warm, last := NewSelecting(), &Selections{}
	for round := range 3000 {
		for range random.IntN(3) {
			k := Key{fmt.Sprint("ns", random.IntN(3)), fmt.Sprint(random.IntN(20))}
			if pods[k] = (&Pod{Key: k, Labels: someLabels(random, 3)}); random.IntN(4) == 0 {
				delete(pods, k)
			}
		}
		for range random.IntN(2) {
			k := Key{fmt.Sprint("ns", random.IntN(3)), fmt.Sprint(random.IntN(8))}
			services[k] = &Service{Key: k, Selector: someLabels(random, 3),
				Annotations: NewLabels(map[string]string{NodePortLocalEnabled: []string{"true", "true", "false"}[random.IntN(3)]})}
			if random.IntN(4) == 0 {
				delete(services, k)
			}
		}
		list, all := &Pods{List: SortedPods(values(pods)...)}, &Sorted[Service]{List: values(services)}
		slices.SortFunc(all.List, compareServices)
		got := warm.Of(list, all)
		cold := NewSelecting().Of(list, all)
		want := map[Selector][]*Pod{}
		for _, s := range all.List {
			for _, one := range s.Asks() {
				want[one] = nil
				for p := range list.List.All() {
					if one.Selects(p) {
						want[one] = append(want[one], p)
					}
				}
			}
		}
		if got.List.Len() != len(want) || cold.List.Len() != len(want) {
			t.Fatalf("round %d: %d selections, cold %d, want %d", round, got.List.Len(), cold.List.Len(), len(want))
		}
		for s, pods := range want {
			now, was := got.Of(s), last.Of(s)
			if !slices.Equal(now.Pods.Slice(), pods) || !slices.Equal(cold.Of(s).Pods.Slice(), pods) {
				t.Fatalf("round %d: %v has %d pods, want %d", round, s, now.Pods.Len(), len(pods))
			}
			if was != nil && slices.Equal(was.Pods.Slice(), pods) != (was == now) {
				t.Fatalf("round %d: %v has the same pods: %v, and the same pointer: %v", round, s, was != now, was == now)
			}
		}
		if warm.Of(list, all) != got {
			t.Fatalf("round %d: nothing changed, and selections did", round)
		}
		last = got
	}
}

func values[T any](m map[Key]*T) (out []*T) {
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// One pod's label among 100,000 pods and 10,000 selections.
func BenchmarkOneLabelOfMany(b *testing.B) {
	var pods []*Pod
	var services Sorted[Service]
	for i := range 100_000 {
		pods = append(pods, &Pod{Key: Key{fmt.Sprintf("ns-%03d", i%100), fmt.Sprintf("pod-%06d", i)},
			Labels: NewLabels(map[string]string{"app": fmt.Sprint("app-", i/100%100), "tier": "front"})})
	}
	for i := range 10_000 {
		services.List = append(services.List, &Service{Key: Key{fmt.Sprintf("ns-%03d", i%100), fmt.Sprintf("s-%05d", i)},
			Selector:    NewLabels(map[string]string{"app": fmt.Sprint("app-", i/100), "tier": "front"}),
			Annotations: NewLabels(map[string]string{NodePortLocalEnabled: "true"})})
	}
	slices.SortFunc(services.List, compareServices)
	was := SortedPods(pods...)
	old := pods[50_000]
	other := *old
	other.Labels = NewLabels(map[string]string{"app": "app-7", "tier": "front"})
	lists := [2]*Pods{{was}, {was.With([]*Pod{old}, []*Pod{&other}, ComparePods)}}
	s := NewSelecting()
	if n := s.Of(lists[0], &services).List.Len(); n != 10_000 {
		b.Fatal(n)
	}
	var now *Selections
	b.ReportAllocs()
	for i := 1; b.Loop(); i++ {
		last := now
		if now = s.Of(lists[i%2], &services); now == last {
			b.Fatal("nothing changed")
		}
	}
	if gone, come := sorted.Differing(now.List, NewSelecting().Of(lists[0], &services).List, CompareSelections); len(gone) != len(come) {
		b.Fatal("other selectors")
	}
}
