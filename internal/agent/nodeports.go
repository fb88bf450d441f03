package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/world"
)

const (
	// mostRounds bounds how often one turn renders again because a port turned out to
	// be another's. The next turn goes on.
	mostRounds = 16
	// takenFor is how long a port that is another's is not tried again.
	takenFor = time.Minute
	// holdAgain is how soon what could not be held or released is tried again.
	holdAgain = time.Second
)

// nodePorts holds the ports of the node that lead to pods with sockets, from
// before the kernel leads them until it does not any more, so that no port of
// somebody else is ever led away. It is the loop's own.
type nodePorts struct {
	keeper *reserve.Keeper
	hold   func([]reserve.Port) reserve.Held // the keeper's
	now    func() time.Time

	taken map[world.Port]time.Time // others', as was found at that time
	input *world.Taken             // the same for the world; nil: none

	led   []world.NodePort // what the kernel leads, or may lead
	asked *world.NodePorts // what was asked for last, where that was not more
	at    time.Time        // when
	held  reserve.Held     // what came of it
	told  map[string]bool  // what was said of held
}

// newNodePorts holds nothing yet. The kernel may lead what an earlier agent gave
// out.
func newNodePorts(earlier *world.Allocations) *nodePorts {
	keeper := reserve.New()
	p := &nodePorts{keeper: keeper, hold: keeper.Hold, now: time.Now, taken: map[world.Port]time.Time{}, told: map[string]bool{}}
	if earlier.NodePorts != nil {
		p.led = earlier.NodePorts.List
	}
	return p
}

// others are the ports that are others', as far as that was looked at lately.
func (p *nodePorts) others() *world.Taken {
	was := len(p.taken)
	for port, at := range p.taken {
		if p.now().Sub(at) > takenFor {
			delete(p.taken, port)
		}
	}
	if len(p.taken) != was {
		p.tellWorld()
	}
	return p.input
}

func (p *nodePorts) tellWorld() {
	p.input = nil
	if len(p.taken) == 0 {
		return
	}
	p.input = &world.Taken{}
	for port := range p.taken {
		p.input.Ports = append(p.input.Ports, port)
	}
	slices.SortFunc(p.input.Ports, func(a, b world.Port) int { return reserve.Port(a).Compare(reserve.Port(b)) })
}

// secure holds the ports that are about to be led and those that the kernel leads
// still, and returns those of the former that turned out to be others'.
func (p *nodePorts) secure(now *world.NodePorts) []world.Port {
	if p.idle(now) {
		return nil
	}
	all := union(now.List, p.led)
	p.ask(all)
	if len(all) == len(now.List) {
		p.asked = now
	}
	if len(p.held.Taken) == 0 {
		return nil
	}
	others := make(map[world.Port]bool, len(p.held.Taken))
	for _, t := range p.held.Taken {
		others[world.Port(t)] = true
	}
	var found []world.Port
	for _, n := range now.List {
		if others[n.Port] {
			p.taken[n.Port] = p.now()
			found = append(found, n.Port)
		}
	}
	p.tellWorld()
	return found
}

// idle reports whether there is nothing to do about the ports, or not yet.
func (p *nodePorts) idle(now *world.NodePorts) bool {
	if now == nil || now == p.asked && p.now().Sub(p.at) < holdAgain {
		return true
	}
	return now == p.asked && len(p.held.Taken)+len(p.held.Unreserved)+len(p.held.Unreleased) == 0
}

func (p *nodePorts) ask(list []world.NodePort) {
	want := make([]reserve.Port, len(list))
	for i, n := range list {
		want[i] = reserve.Port(n.Port)
	}
	p.held, p.asked, p.at = p.hold(want), nil, p.now()
}

// leads notes that the kernel leads these ports and no others, and lets go of the
// rest.
func (p *nodePorts) leads(now *world.NodePorts) {
	if now == nil {
		return
	}
	p.led = now.List
	if p.asked != now {
		p.ask(now.List)
		p.asked = now
	}
}

// mayLead notes that the kernel may lead these ports besides those that it led.
func (p *nodePorts) mayLead(now *world.NodePorts) {
	if now != nil {
		p.led = union(now.List, p.led)
	}
}

// union is a, and what of b is not in a. Both are in order.
func union(a, b []world.NodePort) []world.NodePort {
	var more []world.NodePort
	i := 0
	for _, n := range b {
		for i < len(a) && a[i].Compare(n) < 0 {
			i++
		}
		if i == len(a) || a[i] != n {
			more = append(more, n)
		}
	}
	if more == nil {
		return a
	}
	out := slices.Concat(a, more)
	slices.SortStableFunc(out, func(x, y world.NodePort) int {
		return cmp.Or(x.Compare(y), cmp.Compare(x.Number, y.Number))
	})
	return out
}

// render renders w, and renders it again while ports that it gives out turn out to
// be others'. It returns the world that was rendered last.
func (a *Agent) render(w *world.World) (*world.World, feature.Rendered) {
	for round := 1; ; round++ {
		r := a.renderer.Render(w)
		if w.Taken != nil && w.Taken.Closed {
			return w, r
		}
		found := a.ports.secure(r.Allocations.NodePorts)
		if len(found) == 0 {
			return w, r
		}
		a.events.record(world.Event{Object: "Node " + a.config.Node, Type: world.Warning, Reason: "NodePortTaken",
			Message: fmt.Sprintf("others have ports of nodePortLocal.portRange, which are left to them: %s", some(found))})
		next := *w
		next.Taken = a.ports.input
		if round == mostRounds {
			next.Taken = &world.Taken{Ports: next.Taken.Ports, Closed: true}
			a.loop.Wake()
		}
		w = &next
	}
}

// some are the first few of a list, for people.
func some[T fmt.Stringer](list []T) string {
	const few = 5
	var words []string
	for _, one := range list[:min(few, len(list))] {
		words = append(words, one.String())
	}
	if more := len(list) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// tellHeld says once what keeps ports from being held or released.
func (a *Agent) tellHeld() {
	now := map[string]bool{}
	tell := func(reason, what string, failures []reserve.Failure) {
		why := map[reserve.Why][]reserve.Port{}
		for _, f := range failures {
			why[f.Why] = append(why[f.Why], f.Port)
		}
		for w, ports := range why {
			key := reason + string(w)
			now[key] = true
			if !a.ports.told[key] {
				a.events.record(world.Event{Object: "Node " + a.config.Node, Type: world.Warning, Reason: reason, Subject: string(w),
					Message: fmt.Sprintf("%s: %s: %s", what, w, some(ports))})
			}
		}
	}
	tell("NodePortsUnreserved", "ports lead to pods, and others could take them too", a.ports.held.Unreserved)
	tell("NodePortsNotReleased", "ports lead nowhere and are not given back; trying again", a.ports.held.Unreleased)
	a.ports.told = now
}
