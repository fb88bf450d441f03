package nodeportlocal

import (
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// ofNode is p if it is one of the node's.
func ofNode(p *world.Pod, node string) *world.Pod {
	if p == nil || p.Node != node {
		return nil
	}
	return p
}

// find notes which groups select the pods that changed. The Services are as before.
func (m *memory) find(w *world.World) {
	m.chooser.world, m.chooser.selected = w, selected{first: map[*world.Pod]int32{}}
	_, changed := sorted.Differing(m.selected.List, w.Selections.List, world.CompareSelections)
	for _, s := range changed {
		g := m.chooser.groupsBy[s.Selector]
		was := m.selected.Of(s.Selector)
		if g == nil || was == nil {
			continue
		}
		_, come := sorted.Differing(was.Pods, s.Pods, world.ComparePods)
		for _, p := range come {
			m.chooser.selected.add(p, g)
		}
	}
}

// choose finds the mappings of the pods that changed. false: bounds may leave out some.
func (m *memory) choose(changes []*change) bool {
	c := m.chooser
	for _, one := range changes {
		if was, ok := m.served.Find(func(s *served) int { return s.pod.Compare(one.key) }); ok {
			one.had = was.by
			c.each[one.key.Namespace] -= len(was.by)
			m.mapped -= len(was.by)
		}
		if one.now == nil {
			continue
		}
		c.last = one.record()
		one.mappings = c.mappings(nil, []*world.Pod{one.now})
		if c.left > 0 || len(c.lacking) > 0 {
			return false
		}
		m.mapped += len(one.mappings)
	}
	return !slices.ContainsFunc(changes, func(one *change) bool {
		return c.each[one.key.Namespace] > c.settings.MaxPerNamespace
	})
}

// record are the ports that the pod had, as they are in the record.
func (c *change) record() (out []NodePort) {
	for _, l := range c.had {
		out = append(out, NodePort{Port: l.Port, Pod: c.key, UID: c.was.Local.UID, PodPort: l.to.Port()})
	}
	return out
}

// allot gives the mappings ports, as Decide does. false: some get none.
func (m *memory) allot(changes []*change) bool {
	d := m.decision
	d.Mappings = nil
	var had []NodePort
	for _, c := range changes {
		d.Mappings, had = append(d.Mappings, c.mappings...), append(had, c.record()...)
	}
	for _, h := range had {
		d.spaces.release(h.Port)
	}
	d.spaces.look()
	released := d.keep(had)
	d.spaces.free(released)
	d.give()
	given := d.spaces.forget(d.Mappings)
	left := d.Mappings
	for _, c := range changes {
		c.mappings, left = left[:len(c.mappings)], left[len(c.mappings):]
		if c.by = entrances(c.mappings); len(c.by) < len(c.mappings) {
			return false
		}
	}
	d.Mappings = nil
	was := d.Ports
	now := &NodePorts{Freed: was.Freed}
	if given || len(released) > 0 {
		now.Freed = d.spaces.freed()
	}
	if slices.ContainsFunc(changes, (*change).differs) {
		var come []NodePort
		for _, c := range changes {
			come = append(come, c.ports()...)
		}
		now.List = was.List.With(had, come, NodePort.Compare)
		d.Ports = now
	}
	return true
}

// differs reports whether the record says something else of the pod.
func (c *change) differs() bool { return !slices.Equal(c.record(), c.ports()) }

// ports are those that the pod has, as they are in the record.
func (c *change) ports() (out []NodePort) {
	for _, l := range c.by {
		out = append(out, NodePort{Port: l.Port, Pod: c.key, UID: c.now.Local.UID, PodPort: l.to.Port()})
	}
	return out
}

func (c *change) leadsUDP() bool {
	udp := func(l entrance) bool { return l.Protocol == unix.IPPROTO_UDP }
	return slices.ContainsFunc(c.had, udp) || slices.ContainsFunc(c.by, udp)
}

// notesWith is notes with what the annotations of the pods that changed should say now.
func notesWith(notes sorted.List[world.Note], changes []*change) sorted.List[world.Note] {
	var gone, come []world.Note
	for _, c := range changes {
		if was, said := notes.Find(func(n world.Note) int { return n.Pod.Compare(c.key) }); said {
			gone = append(gone, was)
		}
		if c.now == nil {
			continue
		}
		if now, says := noteOf(c.now, c.mappings); says {
			come = append(come, now)
		}
	}
	return notes.With(gone, come, world.CompareNotes)
}

// put puts the pods that changed into the list of those that are served.
func (m *memory) put(changes []*change) {
	var gone, come []*served
	for _, c := range changes {
		if was, ok := m.served.Find(func(s *served) int { return s.pod.Compare(c.key) }); ok {
			gone = append(gone, was)
		}
		if len(c.by) > 0 {
			come = append(come, &served{c.now, c.by})
		}
	}
	m.served = m.served.With(gone, come, compareServed)
}
