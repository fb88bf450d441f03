package sorted_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/sorted"
)

// Whatever comes and goes, what is made of a list by one who remembers is what a new
// one makes of it, and costs a call for each value that came or went.
func TestEachRemembersWhatANewOneWouldMake(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	calls := 0
	f := func(i item) (out []int) { // now and then the same as others, and twice the same
		calls++
		for range i.value {
			out = append(out, i.key/3, i.key%7)
		}
		return out
	}
	warm := sorted.NewEach(f, compare, cmp.Compare[int])
	has := map[int]item{}
	var list sorted.List[item]
	for round := range 3000 {
		was := maps.Clone(has)
		for range random.IntN(1 << random.IntN(8)) {
			key := random.IntN(1000)
			if random.IntN(1000) < 300+400*(round/1000%2) { // now it grows, now it shrinks
				delete(has, key)
			} else {
				has[key] = item{key, random.IntN(3)}
			}
		}
		gone, come := only(was, has), only(has, was)
		list = list.With(gone, come, compare)
		calls = 0
		got := warm.Of(list).Slice()
		if calls != len(gone)+len(come) {
			t.Fatalf("round %d: %d calls for %d that went and %d that came", round, calls, len(gone), len(come))
		}
		var want []int
		for _, i := range has {
			want = append(want, f(i)...)
		}
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Fatalf("round %d: %v, want %v", round, got, want)
		}
		if cold := sorted.NewEach(f, compare, cmp.Compare[int]).Of(list).Slice(); !slices.Equal(cold, want) {
			t.Fatalf("round %d: a new one makes %v, want %v", round, cold, want)
		}
	}
}

// What two made stays until both are gone.
func TestWhatTwoMadeStaysUntilBothGo(t *testing.T) {
	t.Parallel()
	e := sorted.NewEach(func(i item) []int { return []int{i.value} }, compare, cmp.Compare[int])
	a, b := item{1, 7}, item{2, 7}
	for _, step := range []struct {
		list []item
		want []int
	}{{[]item{a, b}, []int{7}}, {[]item{b}, []int{7}}, {[]item{a}, []int{7}}, {nil, nil}} {
		if got := e.Of(sorted.Of(step.list, compare)).Slice(); !slices.Equal(got, step.want) {
			t.Errorf("of %v: %v, want %v", step.list, got, step.want)
		}
	}
}

// What is made of one of 100,000 that changes.
func BenchmarkEachOneOfMany(b *testing.B) {
	all := make([]item, 100_000)
	for i := range all {
		all[i] = item{i, i}
	}
	lists := [2]sorted.List[item]{sorted.Of(all, compare)}
	lists[1] = lists[0].With(all[50_000:50_001], nil, compare)
	e := sorted.NewEach(func(i item) []item { return []item{i} }, compare, compare)
	e.Of(lists[0])
	b.ReportAllocs()
	for i := 1; b.Loop(); i++ {
		if now := e.Of(lists[i%2]); now.Len() != 100_000-i%2 {
			b.Fatal(now.Len())
		}
	}
}
