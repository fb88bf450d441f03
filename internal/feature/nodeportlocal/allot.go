package nodeportlocal

import (
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

// A Decision is which port of the node leads to which port of a pod.
type Decision struct {
	Mappings []Mapping  // sorted by pod, port, protocol and family
	Ports    *NodePorts // those that are given out
	Free     int        // numbers left, of the protocol and family that has fewest
	Waiting  int        // mappings that no port is left for
	Left     int        // mappings that the bounds of a pod or a namespace leave out

	waiting  []Mapping // some of them
	over     []excess  // some of what is left out
	spaces   spaces
	services *world.OfServices
	settings world.NodePortLocal
	closed   bool
	recorded bool     // what is given out is to be remembered
	lacking  []string // families that the node lacks
	mistakes []world.Problem
}

// Decide chooses the ports of w's pods that are to be reached by the node, and
// gives each a port. Who has one keeps it, also one that only the pod's annotation
// knows of where the record of what was given out is lost: a tenant writes
// annotations too. Otherwise a number is chosen that nobody had, or of those given
// back the one that was for longest.
func Decide(w *world.World) *Decision {
	d, _ := decide(w)
	return d
}

func decide(w *world.World) (*Decision, *chooser) {
	d := &Decision{settings: w.Config.NodePortLocal, closed: w.Taken != nil && w.Taken.Closed}
	c := newChooser(w)
	var taken []world.Port
	if w.Taken != nil {
		taken = slices.Clone(w.Taken.Ports)
	}
	for _, own := range w.OwnPorts() {
		taken = append(taken, own.Ports()...)
	}
	if Allocated.Of(w.Allocations) != nil { // about as many as last time
		d.Mappings = make([]Mapping, 0, Allocated.Of(w.Allocations).List.Len()+8)
	}
	for pods := w.LocalPods.List.Slice(); d.settings.Enabled && len(pods) > 0; {
		n := 0
		for ; n < len(pods) && pods[n].Namespace == pods[0].Namespace; n++ {
			taken = append(taken, c.hosted(pods[n])...)
		}
		d.Mappings = c.mappings(d.Mappings, pods[:n])
		pods = pods[n:]
	}
	d.services = c.services
	d.mistakes, d.over, d.Left = c.mistakes, c.over, c.left
	for _, ipv6 := range []bool{false, true} {
		if c.lacking[ipv6] {
			d.lacking = append(d.lacking, familyName(ipv6))
		}
	}
	d.allot(Allocated.Of(w.Allocations), taken)
	d.recorded = Allocated.Of(w.Allocations) != nil || d.Ports.List.Len() > 0 || d.sees(w)
	return d, c
}

// sees reports whether what is given out is all that there is to give. A record that
// was begun before pods and Services were seen would say that nobody had anything.
func (d *Decision) sees(w *world.World) bool {
	return d.settings.Enabled && !d.closed && w.LocalPods.List.Len() > 0 && len(w.Services.List) > 0
}

// hosted are the ports of the node that p has as host ports.
func (c *chooser) hosted(p *world.Pod) []world.Port {
	var out []world.Port
	for _, h := range p.Local.HostPorts {
		if _, _, nobody := c.world.Nobody(h, c.services); !nobody {
			out = append(out, h.Ports()...)
		}
	}
	return out
}

// allot gives every mapping a port as far as there are ports. Last is the record;
// nil where there is none.
func (d *Decision) allot(last *NodePorts, taken []world.Port) {
	lost := last == nil
	if lost {
		last = &NodePorts{}
	}
	d.spaces = spaces{ports: d.settings.Ports}
	for _, p := range taken {
		d.spaces.leave(p)
	}
	d.spaces.free(last.Freed)
	had := last.List.Slice()
	d.spaces.free(d.keep(had))
	if damaged := ofNobody(had); (lost || len(damaged) > 0) && !d.closed {
		d.recall(damaged)
	}
	if !d.closed {
		d.give()
	}
	list := make([]NodePort, 0, len(d.Mappings))
	for i := range d.Mappings {
		m := &d.Mappings[i]
		switch {
		case m.HostPort:
		case m.Port.Number == 0:
			if d.Waiting++; len(d.waiting) < mostTold {
				d.waiting = append(d.waiting, *m)
			}
		default:
			list = append(list, NodePort{Port: m.Port, Pod: m.Pod.Key, UID: m.Pod.Local.UID, PodPort: m.PodPort})
		}
	}
	now := &NodePorts{Freed: d.spaces.freed(), List: SortedNodePorts(list...).Sharing(last.List, NodePort.Compare)}
	if now.Equal(last) {
		now = last
	}
	d.Ports, d.Free = now, d.spaces.left()
}

// keep leaves every mapping the port that it has, and returns those that lead
// nowhere any more. Both lists are in the same order.
func (d *Decision) keep(have []NodePort) (released []world.Port) {
	i := 0
	for _, h := range have {
		for i < len(d.Mappings) && (d.Mappings[i].HostPort || d.Mappings[i].compare(h) < 0) {
			i++
		}
		if i == len(d.Mappings) || d.Mappings[i].compare(h) != 0 || d.Mappings[i].Port.Number != 0 || !d.spaces.take(h.Port, i) {
			released = append(released, h.Port)
			continue
		}
		d.Mappings[i].Port = h.Port
	}
	return released
}

// compare orders m and p by what they lead to.
func (m *Mapping) compare(p NodePort) int {
	return NodePort{Port: m.Port, Pod: m.Pod.Key, UID: m.Pod.Local.UID, PodPort: m.PodPort}.Compare(p)
}

// ofNobody are the ports whose holders nobody knows: their values were damaged.
func ofNobody(list []NodePort) (out []world.Port) {
	for _, n := range list {
		if n.Pod.Name != "" {
			break // they come first
		}
		out = append(out, n.Port)
	}
	return out
}

// recall gives mappings the ports that their pods' annotations name: of those that were
// damaged or, where there are none, of all. Then our own record was lost, and with it
// which ports rest.
func (d *Decision) recall(damaged []world.Port) {
	var pod *world.Pod
	var said []entry
	for i := range d.Mappings {
		m := &d.Mappings[i]
		if m.HostPort || m.Port.Number != 0 {
			continue
		}
		if m.Pod != pod {
			text, _ := m.Pod.Local.Annotations.Get(world.NodePortLocalPorts)
			pod, said = m.Pod, parse(text)
		}
		for _, e := range said {
			if (len(damaged) == 0 || slices.Contains(damaged, e.port)) && e.podPort == m.PodPort && e.port.IPv6 == m.Port.IPv6 && e.port.Protocol == m.Port.Protocol && d.spaces.take(e.port, i) {
				m.Port = e.port
				break
			}
		}
	}
}

// give gives the mappings that have no port one, both families of a port the same
// number if that can be.
func (d *Decision) give() {
	for i := range d.Mappings {
		m := &d.Mappings[i]
		if m.HostPort || m.Port.Number != 0 {
			continue
		}
		var number uint16
		switch other := d.sibling(i); {
		case other != nil && other.Port.Number != 0:
			number = other.Port.Number
		case other != nil:
			number = d.spaces.both(m.Port.Protocol)
		}
		m.Port.Number = number
		if number == 0 || !d.spaces.take(m.Port, i) {
			m.Port.Number = d.spaces.next(m.Port)
			d.spaces.take(m.Port, i)
		}
	}
}

// sibling is the mapping to the same port of the pod in the other family, if there
// is one: IPv4 stands before IPv6.
func (d *Decision) sibling(i int) *Mapping {
	m := d.Mappings[i]
	j := i + 1
	if m.Port.IPv6 {
		j = i - 1
	}
	if j < 0 || j >= len(d.Mappings) {
		return nil
	}
	o := &d.Mappings[j]
	if o.Pod != m.Pod || o.PodPort != m.PodPort || o.Port.Protocol != m.Port.Protocol || o.HostPort || o.Port.IPv6 == m.Port.IPv6 {
		return nil
	}
	return o
}

// protocols have ports, and each numbers its own.
var protocols = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}
