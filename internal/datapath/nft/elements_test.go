package nft

import (
	"maps"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/netnstest"
)

// A glance at a set that changes all the time ends, and what it misses of what is
// there all the time is something else each time.
func TestGlanceAtWhatChanges(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	const steady = 20_000
	all := blocks(IPv4, steady+1000)
	elements := all.Elements.list.Slice()
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
