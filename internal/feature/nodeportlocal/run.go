package nodeportlocal

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/world"
)

// Beside the loop the ports of the node that lead to pods are held with sockets, from
// before the kernel leads them until it does not any more, so that no port of somebody
// else is ever led away.

const (
	// mostRounds bounds how often a turn renders again because a port turned out to be
	// another's. The next turn goes on.
	mostRounds = 16
	// takenFor is how long a port that is another's is not tried again.
	takenFor = time.Minute
	// holdAgain is how soon what could not be held or released is tried again.
	holdAgain = time.Second
)

// A holder is the feature's helper.
type holder struct {
	host    feature.Host
	sockets Sockets
	now     func() time.Time

	taken  map[world.Port]time.Time // others', as was found at that time
	input  *world.Taken             // the same for the world; nil: none
	rounds int                      // in which ports were found to be others', one after the other

	led   []NodePort      // what the kernel leads, or may lead
	asked *NodePorts      // what was asked for last, where that was not more
	at    time.Time       // when
	told  map[string]bool // what was said of held

	mu   sync.Mutex
	held reserve.Held // what came of it
}

// Sockets hold ports of the node: see [reserve.Keeper].
type Sockets interface {
	Hold(want []reserve.Port) reserve.Held
	Ports() []reserve.Port
}

func start(h feature.Host) feature.Helper { return Hold(h, reserve.New(), time.Now) }

// Hold is the helper that holds ports with the given sockets. The kernel may lead what an
// earlier agent allocated.
func Hold(h feature.Host, by Sockets, now func() time.Time) feature.Helper {
	p := newHolder(h, by, now)
	return feature.Helper{
		Observe: p.observe, Prepare: p.prepare, Applied: p.applied,
		Views:   map[string]func(context.Context, feature.Seen, url.Values) (any, error){"nodeportlocal": p.show},
		Metrics: []*prometheus.Desc{portCount}, Collect: p.collect,
		Checks: func(s feature.Seen) []doctor.Check { return []doctor.Check{p.check(s)} },
		Close:  func() { p.sockets.Hold(nil) },
	}
}

func newHolder(h feature.Host, by Sockets, now func() time.Time) *holder {
	p := &holder{host: h, sockets: by, now: now, taken: map[world.Port]time.Time{}, told: map[string]bool{}}
	if h.Earlier != nil && Allocated.Of(h.Earlier) != nil {
		p.led = Allocated.Of(h.Earlier).List
	}
	return p
}

// observe tells which ports are others', as far as that was looked at lately.
func (p *holder) observe() []world.Part {
	was := len(p.taken)
	for port, at := range p.taken {
		if p.now().Sub(at) > takenFor {
			delete(p.taken, port)
		}
	}
	if len(p.taken) != was {
		p.tellWorld()
	}
	if p.input == nil {
		return nil
	}
	return []world.Part{world.PortsTaken.Part(p.input)}
}

// tellWorld makes what observe tells; what stays is the same value.
func (p *holder) tellWorld() {
	var now *world.Taken
	if len(p.taken) > 0 {
		now = &world.Taken{Closed: p.rounds >= mostRounds}
		for port := range p.taken {
			now.Ports = append(now.Ports, port)
		}
		slices.SortFunc(now.Ports, func(a, b world.Port) int { return reserve.Port(a).Compare(reserve.Port(b)) })
	}
	if !p.input.Equal(now) {
		p.input = now
	}
}

// prepare holds the ports that are about to be led and those that the kernel leads
// still. Where some of the former turn out to be others' they are left to them.
func (p *holder) prepare(want feature.Seen) bool {
	defer p.tellHeld()
	if want.Result == nil {
		return true // what the kernel leads is held until it does not
	}
	now := Allocated.Of(want.World.Allocations)
	if closed := p.input != nil && p.input.Closed; closed {
		// Nothing new was allocated. The next turn goes on.
		p.rounds = 0
		p.tellWorld()
		p.host.Wake()
		p.mayLead(now)
		return true
	}
	found := p.secure(now)
	if len(found) == 0 {
		p.rounds = 0
		p.mayLead(now)
		return true
	}
	p.host.Tell(world.Event{Object: "Node " + p.host.Node, Type: world.Warning, Reason: "NodePortTaken",
		Message: fmt.Sprintf("others have ports of nodePortLocal.portRange, which are left to them: %s", some(found))})
	return false
}

// mayLead notes that the kernel may lead these ports besides those that it led.
func (p *holder) mayLead(now *NodePorts) {
	if now == nil || len(now.List) == len(p.led) && (len(p.led) == 0 || &now.List[0] == &p.led[0]) {
		return // as nearly always
	}
	p.led = union(now.List, p.led)
}

// none is what is led while the feature is switched off.
var none = &NodePorts{}

// applied notes that the kernel leads these ports and no others, and lets go of the
// rest.
func (p *holder) applied(want feature.Seen) {
	defer p.tellHeld()
	now := none
	if want.Result != nil {
		now = Allocated.Of(want.World.Allocations)
	}
	if now != nil {
		p.leads(now)
	}
}

func (p *holder) leads(now *NodePorts) {
	p.led = now.List
	if p.asked != now {
		p.ask(now.List)
		p.asked = now
	}
}

// secure holds the ports that are about to be led and those that the kernel leads
// still, and returns those of the former that turned out to be others'.
func (p *holder) secure(now *NodePorts) []world.Port {
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
	if len(found) > 0 {
		p.rounds++
	}
	p.tellWorld()
	return found
}

// idle reports whether there is nothing to do about the ports, or not yet.
func (p *holder) idle(now *NodePorts) bool {
	if now == nil || now == p.asked && p.now().Sub(p.at) < holdAgain {
		return true
	}
	return now == p.asked && len(p.held.Taken)+len(p.held.Unreserved)+len(p.held.Unreleased) == 0
}

func (p *holder) ask(list []NodePort) {
	want := make([]reserve.Port, len(list))
	for i, n := range list {
		want[i] = reserve.Port(n.Port)
	}
	held := p.sockets.Hold(want)
	p.mu.Lock()
	p.held, p.asked, p.at = held, nil, p.now()
	p.mu.Unlock()
}

// union is a, and what of b is not in a. Both are in order.
func union(a, b []NodePort) []NodePort {
	var more []NodePort
	i := 0
	for _, n := range b {
		for i < len(a) && a[i] != n && a[i].Compare(n) < 0 {
			i++
		}
		if i == len(a) || a[i] != n {
			more = append(more, n)
		}
	}
	if more == nil {
		return a
	}
	out := make([]NodePort, 0, len(a)+len(more))
	for _, n := range more { // nearly always few
		i, _ := slices.BinarySearchFunc(a, n, func(x, y NodePort) int {
			return cmp.Or(x.Compare(y), cmp.Compare(x.Number, y.Number))
		})
		out = append(append(out, a[:i]...), n)
		a = a[i:]
	}
	return append(out, a...)
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
func (p *holder) tellHeld() {
	now := map[string]bool{}
	tell := func(reason, what string, failures []reserve.Failure) {
		why := map[reserve.Why][]reserve.Port{}
		for _, f := range failures {
			why[f.Why] = append(why[f.Why], f.Port)
		}
		for w, ports := range why {
			key := reason + string(w)
			now[key] = true
			if !p.told[key] {
				p.host.Tell(world.Event{Object: "Node " + p.host.Node, Type: world.Warning, Reason: reason, Subject: string(w),
					Message: fmt.Sprintf("%s: %s: %s", what, w, some(ports))})
			}
		}
	}
	tell("NodePortsUnreserved", "ports are DNATed to pods but not reserved", p.held.Unreserved)
	tell("NodePortsNotReleased", "ports are not DNATed any more and could not be released; retrying", p.held.Unreleased)
	p.told = now
}
