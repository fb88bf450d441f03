package nodeportlocal_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/world"
)

// model says in a few words which ports of pods are to be reached, as
// POD PORT/PROTOCOL: those of every Service of the pod's app.
func model(w *world.World) []string {
	var out []string
	for p := range w.LocalPods.List.All() {
		for _, s := range w.Services.List {
			for _, port := range s.Ports {
				name, _ := p.Labels.Get("app")
				asked, _ := s.Selector.Get("app")
				for _, a := range p.Addresses {
					if name == asked && (a.Is4() && s.IPv4 || a.Is6() && s.IPv6) {
						out = append(out, fmt.Sprintf("%s %d/%d %v", p.Name, port.TargetPort, port.Protocol, a.Is6()))
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Whatever happens, the ports that are mapped are those of the model; none has two
// masters, or is another's; and who had one keeps it.
func TestHistories(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := newSim(nil)
	had := map[string]uint16{}
	for i := range 20_000 {
		h := history{random, s}
		h.step()
		s.turn(t)
		d := nodeportlocal.Decide(s.world)
		given := map[world.Port]bool{}
		for n := range d.Ports.List.All() {
			given[n.Port] = true
		}
		var got []string
		masters := map[world.Port]string{}
		has := map[string]uint16{}
		for _, m := range d.Mappings {
			what := fmt.Sprintf("%s %d/%d %v", m.Pod.Name, m.PodPort, m.Port.Protocol, m.Port.IPv6)
			got = append(got, what)
			if m.Port.Number == 0 {
				continue
			}
			if masters[m.Port] != "" || !given[m.Port] || s.world.Taken != nil && slices.Contains(s.world.Taken.Ports, m.Port) {
				t.Fatalf("step %d: %s is of %s and of %q, or of others: %v", i, m.Port, what, masters[m.Port], s.world.Taken)
			}
			if !s.world.Config.NodePortLocal.Ports.Contains(m.Port.Number) {
				t.Fatalf("step %d: %s is outside %s", i, m.Port, s.world.Config.NodePortLocal.Ports)
			}
			masters[m.Port], has[what+m.Pod.Local.UID] = what, m.Port.Number
		}
		slices.Sort(got)
		if want := model(s.world); !slices.Equal(got, want) {
			t.Fatalf("step %d: mapped are %q, want %q", i, got, want)
		}
		for what, number := range had {
			if now, there := has[what]; there && now != number && !h.moved(number) {
				t.Fatalf("step %d: %s had port %d and has %d", i, what, number, now)
			}
		}
		had = has
	}
}

// history changes one thing at a time.
type history struct {
	random *rand.Rand
	*sim
}

// moved reports whether who has a number may have to move.
func (h history) moved(number uint16) bool {
	return !h.world.Config.NodePortLocal.Ports.Contains(number) || h.world.Taken != nil &&
		slices.ContainsFunc(h.world.Taken.Ports, func(p world.Port) bool { return p.Number == number })
}

func (h history) step() {
	if h.random.IntN(50) == 0 { // the disk is lost; the annotations are there
		h.world.Allocations = &world.Parts{}
		return
	}
	config := *h.world.Config
	list, all := h.world.LocalPods.List.Slice(), slices.Clone(h.world.Services.List)
	name := string(rune('a' + h.random.IntN(6)))
	switch h.random.IntN(10) {
	case 0:
		list = slices.DeleteFunc(list, func(p *world.Pod) bool { return p.Name == name })
	case 1, 2, 3:
		list = slices.DeleteFunc(list, func(p *world.Pod) bool { return p.Name == name })
		list = append(list, pod(name, app(string(rune('x'+h.random.IntN(3)))), func(p *world.Pod) {
			p.Addresses = addresses([][]string{{"10.244.1.2"}, {"fd00::2", "10.244.1.3"}, {"fd00::3"}}[h.random.IntN(3)]...)
			p.Local.UID = fmt.Sprint(h.random.IntN(2))
		}))
	case 4:
		all = slices.DeleteFunc(all, func(s *world.Service) bool { return s.Name == name })
	case 5, 6, 7:
		all = slices.DeleteFunc(all, func(s *world.Service) bool { return s.Name == name })
		var ports []world.ServicePort
		for range h.random.IntN(3) {
			ports = append(ports, to([]byte{tcp, udp, sctp}[h.random.IntN(3)], uint16(80+h.random.IntN(3))))
		}
		s := web(name, ports...)
		s.Selector = world.NewLabels(map[string]string{"app": string(rune('x' + h.random.IntN(3)))})
		s.IPv4 = h.random.IntN(2) == 0
		s.IPv6 = !s.IPv4 || h.random.IntN(2) == 0
		all = append(all, s)
	case 8:
		config.NodePortLocal.Ports = []world.PortRange{{Low: 61000, High: 61009}, {Low: 61005, High: 61020}, {Low: 61000, High: 61002}}[h.random.IntN(3)]
	case 9:
		h.world.Taken = nil
		if h.random.IntN(2) == 0 {
			h.world.Taken = &world.Taken{Ports: []world.Port{{Protocol: tcp, Number: 61000 + uint16(h.random.IntN(10))}}}
		}
	}
	h.world.Config = &config
	h.set(list, all...)
}
