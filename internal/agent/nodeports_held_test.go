package agent

import (
	"slices"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/world"
)

// keeping is nodePorts whose keeper only notes what it is asked to hold.
func keeping(failed func([]reserve.Port) reserve.Held) (p *nodePorts, asked func() []uint16) {
	var last []reserve.Port
	p = newNodePorts(&world.Allocations{})
	p.hold = func(want []reserve.Port) reserve.Held {
		last = want
		return failed(want)
	}
	return p, func() (numbers []uint16) {
		for _, w := range last {
			numbers = append(numbers, w.Number)
		}
		slices.Sort(numbers)
		return numbers
	}
}

func holdAll(want []reserve.Port) reserve.Held { return reserve.Held{Reserved: len(want)} }

// leading leads the numbers to as many pods.
func leading(numbers ...uint16) *world.NodePorts {
	out := &world.NodePorts{}
	for _, n := range numbers {
		out.List = append(out.List, world.NodePort{Port: world.Port{Protocol: 6, Number: n}, Pod: world.Key{Name: string(rune(n))}})
	}
	return out
}

// TestSyncRulesError: while the kernel refuses the rules, what it may lead stays
// held, and no more once it takes them.
func TestPortsAreHeldWhileTheKernelMayLeadThem(t *testing.T) {
	p, asked := keeping(holdAll)
	expect := func(want ...uint16) {
		t.Helper()
		if got := asked(); !slices.Equal(got, want) {
			t.Errorf("held are %d, want %d", got, want)
		}
	}
	first, second, third := leading(1, 2), leading(2), leading(2, 3)
	p.secure(first)
	expect(1, 2)
	p.leads(first)
	p.secure(second)
	expect(1, 2)
	p.mayLead(second) // refused
	p.secure(third)
	expect(1, 2, 3)
	p.mayLead(third) // refused again
	p.secure(third)
	expect(1, 2, 3)
	p.leads(third)
	expect(2, 3)
	p.leads(leading())
	expect()
}

// TestPreventDefunctRuleReuse: a port that could not be released and is wanted again
// is just wanted: nothing of how it was let go is in the way.
func TestAPortThatWasNotReleasedIsWantedAgain(t *testing.T) {
	clock := time.Now()
	stuck := true
	p, asked := keeping(func(want []reserve.Port) reserve.Held {
		h := reserve.Held{Reserved: len(want)}
		if stuck && len(want) == 0 {
			h.Unreleased = []reserve.Failure{{Port: reserve.Port{Protocol: 6, Number: 1}, Why: "busy"}}
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
