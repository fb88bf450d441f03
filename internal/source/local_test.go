package source

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

// Whatever changes, the node's own pods are those of all that are its own, and
// where none of them changed they are the same value.
func TestTheNodesOwnPods(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	b := NewBuilder("n1")
	var pods []*world.Pod
	var last *world.Pods
	for round := range 2000 {
		pods = slices.Clone(pods)
		for range random.IntN(3) {
			p := &world.Pod{Key: world.Key{Name: fmt.Sprintf("p%02d", random.IntN(40))}, Node: fmt.Sprintf("n%d", 1+random.IntN(5))}
			i, there := slices.BinarySearchFunc(pods, p.Key, func(p *world.Pod, k world.Key) int { return p.Compare(k) })
			switch {
			case !there:
				pods = slices.Insert(pods, i, p)
			case random.IntN(2) == 0:
				pods[i] = p
			default:
				pods = slices.Delete(pods, i, i+1)
			}
		}
		w, _ := b.Build(Inputs{Objects: &Objects{Pods: world.SortedPods(slices.Clone(pods)...)}, Kernel: &world.Kernel{}, Attachments: &world.Attachments{}})
		want := slices.DeleteFunc(slices.Clone(pods), func(p *world.Pod) bool { return p.Node != "n1" })
		if !slices.Equal(w.LocalPods.List.Slice(), want) {
			t.Fatalf("round %d: %v, want %v", round, w.LocalPods.List.Slice(), want)
		}
		if last != nil && slices.Equal(last.List.Slice(), want) && w.LocalPods != last {
			t.Fatalf("round %d: another value of the same pods", round)
		}
		last = w.LocalPods
	}
}
