package nodeportlocal

import (
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
	"fairlead.dev/fairlead/internal/sorted"
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

	ports *sorted.Each[NodePort, world.Port] // of what was allocated
	led   sorted.List[world.Port]            // what the kernel leads, or may lead
	asked *NodePorts                         // what was asked for last, where that was not more
	at    time.Time                          // when

	unreserved, unreleased complaint

	mu   sync.Mutex
	held reserve.Held // what came of it
}

// Sockets hold ports of the node: see [reserve.Keeper].
type Sockets interface {
	Hold(want sorted.List[world.Port]) reserve.Held
	Ports() []world.Port
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
		Close:  func() { p.sockets.Hold(sorted.List[world.Port]{}) },
	}
}

func newHolder(h feature.Host, by Sockets, now func() time.Time) *holder {
	p := &holder{host: h, sockets: by, now: now, taken: map[world.Port]time.Time{},
		unreserved: complaint{reason: "NodePortsUnreserved", what: "ports are DNATed to pods but not reserved", ports: map[reserve.Why]int{}},
		unreleased: complaint{reason: "NodePortsNotReleased", what: "ports are not DNATed any more and could not be released; retrying", ports: map[reserve.Why]int{}},
		ports:      sorted.NewEach(func(n NodePort) []world.Port { return []world.Port{n.Port} }, NodePort.Compare, world.Port.Compare)}
	if h.Earlier != nil && Allocated.Of(h.Earlier) != nil {
		p.led = p.ports.Of(Allocated.Of(h.Earlier).List)
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
		slices.SortFunc(now.Ports, world.Port.Compare)
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
	if now != nil {
		p.led = union(p.led, p.ports.Of(now.List))
	}
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
	p.led = p.ports.Of(now.List)
	if p.asked != now {
		p.ask(p.led)
		p.asked = now
	}
}

// secure holds the ports that are about to be led and those that the kernel leads
// still, and returns those of the former that turned out to be others'.
func (p *holder) secure(now *NodePorts) []world.Port {
	if p.idle(now) {
		return nil
	}
	ports := p.ports.Of(now.List)
	all := union(p.led, ports)
	p.ask(all)
	if all.Len() == ports.Len() {
		p.asked = now
	}
	if len(p.held.Taken) == 0 {
		return nil
	}
	var found []world.Port
	for _, t := range p.held.Taken {
		if _, wanted := ports.Find(func(q world.Port) int { return q.Compare(t) }); wanted {
			p.taken[t] = p.now()
			found = append(found, t)
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
	return now == p.asked && len(p.held.Taken)+p.held.Unreserved.Len()+len(p.held.Unreleased) == 0
}

func (p *holder) ask(want sorted.List[world.Port]) {
	held := p.sockets.Hold(want)
	p.mu.Lock()
	p.held, p.asked, p.at = held, nil, p.now()
	p.mu.Unlock()
}

// union is a, and what of b is not in a.
func union(a, b sorted.List[world.Port]) sorted.List[world.Port] {
	_, more := sorted.Differing(a, b, world.Port.Compare)
	return a.With(nil, more, world.Port.Compare)
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
	p.unreserved.tell(p, p.held.Unreserved)
	p.unreleased.tell(p, sorted.Of(slices.Clone(p.held.Unreleased), reserve.Failure.Compare))
}

// A complaint is about ports, and says of each reason once that there are some.
type complaint struct {
	reason, what string
	last         sorted.List[reserve.Failure]
	ports        map[reserve.Why]int // how many of last there are
}

func (c *complaint) tell(p *holder, now sorted.List[reserve.Failure]) {
	gone, come := sorted.Differing(c.last, now, reserve.Failure.Compare)
	c.last = now
	news := map[reserve.Why][]world.Port{}
	for _, f := range come {
		news[f.Why] = append(news[f.Why], f.Port)
	}
	for why, ports := range news {
		if c.ports[why] == 0 {
			p.host.Tell(world.Event{Object: "Node " + p.host.Node, Type: world.Warning, Reason: c.reason, Subject: string(why),
				Message: fmt.Sprintf("%s: %s: %s", c.what, why, some(ports))})
		}
		c.ports[why] += len(ports)
	}
	for _, f := range gone {
		c.ports[f.Why]--
	}
}
