package sorted_test

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/sorted"
)

// An item is one of a list by key, another with each value.
type item struct{ key, value int }

func compare(a, b item) int { return cmp.Compare(a.key, b.key) }

// Whatever comes and goes, a list is what a map would have, every value is found,
// and so is what differs between two lists.
func TestListsAreAsMapsWouldBe(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var list sorted.List[item]
	has := map[int]item{}
	for round := range 3000 {
		was := maps.Clone(has)
		for range 1 + random.IntN(1<<random.IntN(10)) {
			key := random.IntN(3000)
			if random.IntN(1000) < 300+400*(round/1000%2) { // now it grows, now it shrinks
				delete(has, key)
			} else {
				has[key] = item{key, random.IntN(3)}
			}
		}
		gone, come := only(was, has), only(has, was)
		before := list
		list = before.With(gone, come, compare)
		want := slices.SortedFunc(maps.Values(has), compare)
		if !slices.Equal(list.Slice(), want) || !slices.Equal(slices.Collect(list.All()), want) || list.Len() != len(want) {
			t.Fatalf("round %d: %d values, want %d", round, list.Len(), len(want))
		}
		lost, news := sorted.Differing(before, list, compare)
		if !slices.Equal(lost, gone) || !slices.Equal(news, come) {
			t.Fatalf("round %d: %v go and %v come, want %v and %v", round, lost, news, gone, come)
		}
		lost, news = sorted.Differing(list, sorted.Of(want, compare), compare)
		if len(lost)+len(news) > 0 {
			t.Fatalf("round %d: what is the same differs in %v and %v", round, lost, news)
		}
		if fresh := sorted.Of(slices.Clone(want), compare); !list.Equal(fresh) || !fresh.Equal(list) || list.Equal(before) != (len(gone)+len(come) == 0) {
			t.Fatalf("round %d: what is the same is not equal, or what differs is", round)
		}
		key := random.IntN(3000)
		from := slices.IndexFunc(want, func(i item) bool { return i.key >= key })
		if from < 0 {
			from = len(want)
		}
		if got := slices.Collect(list.From(func(i item) int { return cmp.Compare(i.key, key) })); !slices.Equal(got, want[from:]) {
			t.Fatalf("round %d: from %d there are %v, want %v", round, key, got, want[from:])
		}
		value, there := list.Find(func(i item) int { return cmp.Compare(i.key, key) })
		if expected, is := has[key]; there != is || value != expected {
			t.Fatalf("round %d: %d is %v, %t, want %v, %t", round, key, value, there, expected, is)
		}
	}
}

// What was made anew shares with what was there before all but the chunks around what
// differs.
func TestSharingLeavesWhatStays(t *testing.T) {
	t.Parallel()
	all := make([]item, 10_000)
	for i := range all {
		all[i] = item{i, 0}
	}
	was := sorted.Of(slices.Clone(all), compare)
	if now := sorted.Of(slices.Clone(all), compare).Sharing(was, compare); looks(was, now) != 0 {
		t.Errorf("of the same, %d values are looked at", looks(was, now))
	}
	all[5000].value = 1
	now := sorted.Of(all, compare).Sharing(was, compare)
	if gone, come := sorted.Differing(was, now, compare); len(gone) != 1 || len(come) != 1 || looks(was, now) > 600 {
		t.Errorf("%v became %v, and %d values are looked at", gone, come, looks(was, now))
	}
}

// looks is how many values are compared where two lists are.
func looks(a, b sorted.List[item]) (n int) {
	sorted.Differing(a, b, func(a, b item) int { n++; return compare(a, b) })
	return n
}

// What goes and comes at once stays: a pod that changes may keep its address.
func TestWhatGoesAndComesStays(t *testing.T) {
	t.Parallel()
	a, b, c := item{1, 0}, item{2, 0}, item{3, 0}
	list := sorted.Of([]item{a, b, c}, compare).With([]item{a, b}, []item{b}, compare)
	if got, want := list.Slice(), []item{b, c}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// only is what a has and b has not, in order.
func only(a, b map[int]item) []item {
	var out []item
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

// One of 100,000 that changes costs what is around it.
func BenchmarkOneOfMany(b *testing.B) {
	all := make([]item, 100_000)
	for i := range all {
		all[i].key = i
	}
	was := sorted.Of(all, compare)
	b.ReportAllocs()
	for b.Loop() {
		now := was.With(all[50_000:50_001], nil, compare)
		if gone, _ := sorted.Differing(was, now, compare); len(gone) != 1 {
			b.Fatal(gone)
		}
	}
}
