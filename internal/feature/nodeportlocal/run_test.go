package nodeportlocal

import (
	"slices"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// holding is sockets that only say what comes of it.
type holding func([]world.Port) reserve.Held

func (h holding) Hold(want sorted.List[world.Port]) reserve.Held { return h(want.Slice()) }
func (holding) Ports() []world.Port                              { return nil }

// keeping is a holder whose sockets only note what it is asked to hold.
func keeping(failed func([]world.Port) reserve.Held) (p *holder, asked func() []uint16) {
	var last []world.Port
	by := holding(func(want []world.Port) reserve.Held {
		last = want
		return failed(want)
	})
	return newHolder(feature.Host{}, by, time.Now), func() (numbers []uint16) {
		for _, w := range last {
			numbers = append(numbers, w.Number)
		}
		slices.Sort(numbers)
		return numbers
	}
}

func holdAll(want []world.Port) reserve.Held { return reserve.Held{Reserved: len(want)} }

// leading leads the numbers to as many pods.
func leading(numbers ...uint16) *NodePorts {
	var list []NodePort
	for _, n := range numbers {
		list = append(list, NodePort{Port: world.Port{Protocol: 6, Number: n}, Pod: world.Key{Name: string(rune(n))}})
	}
	return &NodePorts{List: SortedNodePorts(list...)}
}

// What the kernel may lead stays held, and nothing else does. The cases have
// Antrea's names.
func TestPortsAreHeldWhileTheKernelMayLeadThem(t *testing.T) {
	const refused, led = false, true
	none, first, second, both, last, all := []uint16(nil), []uint16{1}, []uint16{2}, []uint16{1, 2}, []uint16{2, 3}, []uint16{1, 2, 3}
	for name, steps := range map[string][]struct {
		wanted        []uint16
		outcome       bool     // of asking the kernel for them
		before, after []uint16 // held
	}{
		"TestAddRule": { // one that is refused and not wanted any more is let go
			{first, led, first, first}, {both, refused, both, both}, {first, led, both, first},
		},
		"TestDeleteRule": { // and once more
			{both, led, both, both}, {second, led, both, second}, {second, led, second, second}, {none, led, second, none},
		},
		"TestSingleRuleDeletionError": { // tried again, and the other port stays
			{both, led, both, both}, {first, refused, both, both}, {first, refused, both, both}, {first, led, both, first},
		},
		"TestSyncRulesError": {
			{both, led, both, both}, {second, refused, both, both}, {last, refused, all, all}, {last, refused, all, all},
			{last, led, all, last}, {none, led, last, none},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, asked := keeping(holdAll)
			var now *NodePorts
			for i, s := range steps {
				if i == 0 || !slices.Equal(s.wanted, steps[i-1].wanted) { // what does not change is the same
					now = leading(s.wanted...)
				}
				p.secure(now)
				before := asked()
				if s.outcome == led {
					p.leads(now)
				} else {
					p.mayLead(now)
				}
				if after := asked(); !slices.Equal(before, s.before) || !slices.Equal(after, s.after) {
					t.Errorf("step %d: held are %d, then %d; want %d, then %d", i, before, after, s.before, s.after)
				}
			}
		})
	}
}

// TestPreventDefunctRuleReuse: a port that could not be released and is wanted again
// is just wanted: nothing of how it was let go is in the way.
func TestAPortThatWasNotReleasedIsWantedAgain(t *testing.T) {
	clock := time.Now()
	stuck := true
	p, asked := keeping(func(want []world.Port) reserve.Held {
		h := reserve.Held{Reserved: len(want)}
		if stuck && len(want) == 0 {
			h.Unreleased = []reserve.Failure{{Port: world.Port{Protocol: 6, Number: 1}, Why: "busy"}}
		}
		return h
	})
	p.now = func() time.Time { return clock }
	one, none := leading(1), leading()
	p.secure(one)
	p.leads(one)
	p.secure(none)
	p.leads(none)
	if len(p.held.Unreleased) != 1 || p.idle(none) == false {
		t.Errorf("it is tried again at once: %+v", p.held)
	}
	clock = clock.Add(holdAgain)
	if p.idle(none) {
		t.Error("it is not tried again")
	}
	again := leading(1)
	if found := p.secure(again); len(found) > 0 || !slices.Equal(asked(), []uint16{1}) || len(p.held.Unreleased) > 0 {
		t.Errorf("%v are others', held are %d, %+v", found, asked(), p.held)
	}
	p.leads(again)
	stuck = false
	p.secure(none)
	if p.leads(none); len(p.held.Unreleased) > 0 || !p.idle(none) {
		t.Errorf("not released: %+v", p.held)
	}
}
