package nodeportlocal_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/world"
)

// At the bounds, where ports run out and where pods have host ports, what one pod gets
// depends on others: who remembers the turns before renders there what a new one would,
// which every turn compares.
func TestWarmIsColdWherePodsDependOnEachOther(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	s := newSim(nil)
	for range 6000 {
		h := history{random, s}
		if random.IntN(20) == 0 {
			config := *s.world.Config
			config.NodePortLocal.MaxPerPod, config.NodePortLocal.MaxPerNamespace = 1+random.IntN(4), 2+random.IntN(10)
			s.world.Config = &config
		}
		for range 1 + random.IntN(3) { // several pods at once, too
			if h.step(); random.IntN(4) > 0 || s.world.LocalPods.List.Len() == 0 {
				continue
			}
			list := s.world.LocalPods.List.Slice()
			i := random.IntN(len(list))
			p, local := *list[i], *list[i].Local
			local.HostPorts = nil
			if random.IntN(2) == 0 {
				local.HostPorts = []world.HostPort{{Port: 61000 + uint16(random.IntN(12)), Protocol: tcp, PodPort: 80 + uint16(random.IntN(3))}}
			}
			p.Local, list[i] = &local, &p
			s.set(list, s.world.Services.List...)
		}
		w := *s.world
		w.Allocations = w.Allocations.With(s.render(t, &w).Allocations)
		if random.IntN(4) == 0 {
			s.render(t, &w)
		}
		s.world.Allocations = w.Allocations
	}
}

// One pod more or less among many costs nothing for the others: no value is made for any
// of them.
func TestOnePodCostsNothingForTheOthers(t *testing.T) {
	allocations := func(n int) float64 {
		w := many(n + 1)
		picks := world.NewSelecting()
		with := *w
		with.Selections = picks.Of(w.Pods, w.Services)
		without := with
		last := w.Pods.List.Slice()[n:]
		without.Pods = &world.Pods{List: w.Pods.List.With(last, nil, world.ComparePods)}
		without.LocalPods = without.Pods
		without.Selections = picks.Of(without.Pods, w.Services)
		render := nodeportlocal.Feature.Render()
		now := render(&without)
		return testing.AllocsPerRun(20, func() {
			for i, next := range []world.World{with, without} {
				next.Allocations = now.Allocations
				if now = render(&next); nodeportlocal.Allocated.Of(now.Allocations).List.Len() != n+1-i {
					panic(fmt.Sprint(nodeportlocal.Allocated.Of(now.Allocations).List.Len(), " ports"))
				}
			}
		})
	}
	few, much := allocations(100), allocations(3000)
	if much > few+100 {
		t.Errorf("one pod costs %.0f allocations among 3,000 and %.0f among 100", much, few)
	}
}
