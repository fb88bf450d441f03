package kube

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

func newPods() *list[world.Pod] {
	return &list[world.Pod]{key: func(p *world.Pod) world.Key { return p.Key }, equal: (*world.Pod).Equal}
}

// Whatever happens to a list, it holds what a map would, sorted; what was handed
// out stays as it was, and what did not change is the same value.
func TestAListIsAMapInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pod := func() *world.Pod {
		return &world.Pod{Key: world.Key{Namespace: strconv.Itoa(random.IntN(3)), Name: strconv.Itoa(random.IntN(20))}, Node: strconv.Itoa(random.IntN(2))}
	}
	l, want := newPods(), map[world.Key]*world.Pod{}
	var given, copied []*world.Pod
	for range 20_000 {
		before := maps.Clone(want)
		var news []world.Key
		switch random.IntN(4) {
		case 0:
			all := map[world.Key]*world.Pod{}
			for range random.IntN(30) {
				p := pod()
				all[p.Key] = p
			}
			news = l.replace(slices.Collect(maps.Values(all)))
			want = all
		case 1:
			p := pod()
			if l.put(p.Key, nil) {
				news = []world.Key{p.Key}
			}
			delete(want, p.Key)
		default:
			p := pod()
			if l.put(p.Key, p) {
				news = []world.Key{p.Key}
			}
			want[p.Key] = p
		}
		slices.SortFunc(news, world.Key.Compare)
		if changed := keepEqual(before, want); !slices.Equal(news, changed) {
			t.Fatalf("told of %v, and %v changed", news, changed)
		}
		all := l.all.Slice()
		if len(all) != len(want) || !slices.IsSortedFunc(all, func(a, b *world.Pod) int { return a.Compare(b.Key) }) {
			t.Fatalf("%d objects, want %d; or out of order", len(all), len(want))
		}
		for _, p := range all {
			if want[p.Key] != p || l.get(p.Key) != p {
				t.Fatalf("%v is %v, want %v", p.Key, p, want[p.Key])
			}
		}
		if !slices.Equal(given, copied) {
			t.Fatal("what was handed out has changed")
		}
		if random.IntN(3) == 0 {
			given = l.slice()
			copied = slices.Clone(given)
		}
	}
}

// keepEqual puts the pods of before in the place of equal ones, and returns the
// keys of the others.
func keepEqual(before, now map[world.Key]*world.Pod) []world.Key {
	var changed []world.Key
	for k, p := range now {
		if was := before[k]; was != nil && was.Equal(p) {
			now[k] = was
		} else {
			changed = append(changed, k)
		}
	}
	for k := range before {
		if now[k] == nil {
			changed = append(changed, k)
		}
	}
	slices.SortFunc(changed, world.Key.Compare)
	return changed
}
