package snat_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/world"
)

var kept = snat.Feature.Keeps[0]

// written are the values that lead from one turn's blocks to another's, put over those
// that there were.
func written(t *testing.T, on []journal.Value, last, now *snat.BlockList) (values []journal.Value, lines int) {
	t.Helper()
	var before *world.Parts
	if last != nil {
		before = snat.Allocated.Only(last)
	}
	values = slices.Clone(on)
	kept.Changed(before, snat.Allocated.Only(now), func(c journal.Change) {
		v, err := journal.ValueOf(c.Key, time.Time{}, c.Value)
		if err != nil {
			t.Fatal(err)
		}
		lines++
		had := len(values)
		if values = slices.DeleteFunc(values, func(o journal.Value) bool { return o.Key == v.Key }); (len(values) < had) != c.Had {
			t.Errorf("%s is told as %+v", c.Key, c)
		}
		if v.JSON != nil {
			values = append(values, v)
		}
	})
	return values, lines
}

func blocks(t *testing.T, values []journal.Value, lost ...string) *snat.BlockList {
	t.Helper()
	a, wrong := kept.Read(values, lost)
	if len(wrong) > 0 {
		t.Errorf("nobody wrote %v", wrong)
	}
	if b := snat.Allocated.Of(a); b != nil {
		return b
	}
	return &snat.BlockList{}
}

// Every change is as many lines as blocks changed, and comes back.
func TestBlocksComeBackFromTheDisk(t *testing.T) {
	one := snat.Block{Number: 0, Holder: "a@eth0", Pod: "d/a", Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.2")}}
	two := snat.Block{Number: 7, Holder: "b@eth0", Pod: "d/b", Freed: 3}
	held := two
	held.Freed = 0
	var values []journal.Value
	var last *snat.BlockList
	for i, step := range []struct {
		list  []snat.Block
		lines int
	}{{[]snat.Block{one}, 1}, {[]snat.Block{one, held}, 1}, {[]snat.Block{one, two}, 1}, {[]snat.Block{two}, 1}, {[]snat.Block{one}, 2}, {nil, 1}} {
		now := &snat.BlockList{List: step.list}
		var lines int
		values, lines = written(t, values, last, now)
		if got := blocks(t, values); !got.Equal(now) || lines != step.lines {
			t.Errorf("step %d: %d lines, and %+v comes back, want %d and %+v", i, lines, got, step.lines, now)
		}
		last = now
	}
}

// A block whose line is damaged rests, and is the last to be given out.
func TestALostBlockIsNobodys(t *testing.T) {
	values, _ := written(t, nil, nil, &snat.BlockList{List: []snat.Block{{Number: 0, Holder: "a@eth0", Pod: "d/a"}}})
	got := blocks(t, values, "1", "x")
	if len(got.List) != 2 || got.List[1].Number != 1 || got.List[1].Holder != "" {
		t.Errorf("%+v", got)
	}
}

// Whatever values say, they are read or told as wrong, and what was read is read again.
func FuzzKept(f *testing.F) {
	f.Add("7", `{"holder":"a@eth0","pod":"d/a","addresses":["10.0.0.1"],"freed":3}`, "8")
	f.Add("-1", `{}`, "x")
	f.Add("07", `{"freed":-1}`, "7")
	f.Fuzz(func(t *testing.T, key, text, lost string) {
		if !json.Valid([]byte(text)) {
			return
		}
		a, _ := kept.Read([]journal.Value{{Key: key, JSON: []byte(text)}}, []string{lost})
		read := snat.Allocated.Of(a)
		if read == nil {
			return
		}
		values, _ := written(t, nil, nil, read)
		if got := blocks(t, values); !got.Equal(read) {
			t.Errorf("%+v becomes %+v", read, got)
		}
	})
}
