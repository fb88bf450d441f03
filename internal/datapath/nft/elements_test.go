package nft

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/netnstest"
)

// Whatever comes and goes, the elements are those that a set would have, and what
// differs between two of them is found.
func TestElementsAreAsASetWouldHaveThem(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	element := func(n int) Element { return Element{Key: Port(uint16(n))} }
	var e Elements
	has := map[Element]bool{}
	for round := range 3000 {
		many := 1 + random.IntN(1<<random.IntN(10))
		var gone, come []Element
		was := e
		for range many {
			some := element(random.IntN(3000))
			if random.IntN(1000) < 300+400*(round/1000%2) { // now it grows, now it shrinks
				gone = append(gone, some)
			} else {
				come = append(come, some)
			}
		}
		come = slices.DeleteFunc(come, func(e Element) bool { return slices.Contains(gone, e) })
		var onlyWas, onlyIs []Element
		for _, g := range gone {
			if has[g] {
				onlyWas = append(onlyWas, g)
			}
			delete(has, g)
		}
		for _, c := range come {
			if !has[c] {
				onlyIs = append(onlyIs, c)
			}
			has[c] = true
		}
		e = was.With(gone, come)
		var all []Element
		for h := range has {
			all = append(all, h)
		}
		want := Sorted(all)
		if !slices.Equal(e.list(), want.list()) || e.Len() != len(has) || !e.Equal(want) || len(onlyIs)+len(onlyWas) > 0 && e.Equal(was) {
			t.Fatalf("round %d: %d elements, want %d", round, e.Len(), len(has))
		}
		lost, news := differing(was, e)
		if !slices.Equal(lost, Sorted(onlyWas).list()) || !slices.Equal(news, Sorted(onlyIs).list()) {
			t.Fatalf("round %d: %d go and %d come, want %d and %d", round, len(lost), len(news), len(onlyWas), len(onlyIs))
		}
		for i, c := range e.chunks {
			if len(c) == 0 || len(c) >= 2*chunkLen || i > 0 && len(c)+len(e.chunks[i-1]) <= chunkLen/8 {
				t.Fatalf("round %d: chunk %d of %d has %d elements", round, i, len(e.chunks), len(c))
			}
		}
	}
}

// A glance at a set that changes all the time ends, and what it misses of what is
// there all the time is something else each time.
func TestGlanceAtWhatChanges(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	const steady = 20_000
	all := blocks(IPv4, steady+1000)
	elements := all.Elements.list()
	set := func(e Elements) []*Table {
		return []*Table{{Name: "t", Sets: []*Set{{Name: all.Name, Type: all.Type, Data: all.Data, DataInterval: true, Elements: e}}}}
	}
	now := Sorted(slices.Clone(elements[:steady]))
	apply(t, h, set(now)[0])
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		h.Do(func() error {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return nil
				default:
				}
				next := Sorted(slices.Concat(elements[:steady], elements[steady+i%1000:steady+i%1000+1]))
				if err := Apply(DiffTables(set(now), set(next))); err != nil {
					return err
				}
				now = next
			}
		})
	}()
	missed := func() map[Element]bool {
		out := map[Element]bool{}
		h.Do(func() error {
			found, err := Glance("t")
			if err != nil || len(found) != 1 || len(found[0].Sets) != 1 {
				t.Errorf("found %v, %v", found, err)
				return nil
			}
			gone, _ := differing(Sorted(slices.Clone(elements[:steady])), found[0].Sets[0].Elements)
			for _, e := range gone {
				out[e] = true
			}
			return nil
		})
		return out
	}
	first, again := missed(), missed()
	close(stop)
	<-ended
	t.Logf("of %d elements %d were missed, and then %d", steady, len(first), len(again))
	if len(first) > steady/10 {
		t.Errorf("%d of %d were missed", len(first), steady)
	}
	maps.DeleteFunc(first, func(e Element, _ bool) bool { return !again[e] })
	if len(first) > steady/100 {
		t.Errorf("%d were missed twice", len(first))
	}
}

// One of 100,000 that changes costs what is around it.
func BenchmarkOneElementOfMany(b *testing.B) {
	was := blocks(IPv4, 100_000).Elements
	one := was.list()[50_000:50_001]
	for b.Loop() {
		now := was.With(one, nil)
		if gone, _ := differing(was, now); len(gone) != 1 {
			b.Fatal(gone)
		}
	}
}
