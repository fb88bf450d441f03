package nodeportlocal

import (
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// A renderer renders one world after the other. Where nothing but some pods changed, and
// there is room for all, it decides about these pods only: what others have does not
// depend on them then. Everything else is decided anew as a whole, by [Decide].
type renderer struct {
	read   reads
	result *feature.Result
	last   *memory // nil: the next decision is about all
	tables [2]func(sorted.List[*served]) [3]nft.Elements
}

// A memory is what decisions about some pods go on from. They change it.
type memory struct {
	decision *Decision
	chooser  *chooser
	pods     sorted.List[*world.Pod]
	selected *world.Selections
	served   sorted.List[*served]
	mapped   int
}

// A served is a pod that has ports of the node. It is never changed.
type served struct {
	pod *world.Pod
	by  []entrance // in the order of the record
}

// An entrance is a port of the node that leads to a port of a pod.
type entrance struct {
	world.Port
	to netip.AddrPort
}

func compareServed(a, b *served) int { return a.pod.Compare(b.pod.Key) }

func newRenderer() feature.Render {
	r := &renderer{}
	for i := range r.tables {
		r.tables[i] = elements(i == 1)
	}
	return r.render
}

func (r *renderer) render(w *world.World) *feature.Result {
	read := readsOf(w)
	if r.result != nil && read == r.read {
		return r.result
	}
	result := r.some(w, read)
	if result == nil {
		result = r.all(w)
	}
	next := *w
	if result.Allocations != nil {
		next.Allocations = w.Allocations.With(result.Allocations)
	}
	r.read, r.result = read, result
	if next.Allocations != w.Allocations && (r.last != nil || settled(&next, result)) { // a turn that follows for nothing else has nothing to render
		r.read = readsOf(&next)
	}
	return result
}

// settled reports whether w, which has what was given out for it, is given just that, and
// the same is said. Where a bound or the range is reached, who lost a port to others
// comes behind those who never had one, the next time.
func settled(w *world.World, result *feature.Result) bool {
	d := Decide(w)
	return d.Ports == Allocated.Of(w.Allocations) && slices.Equal(d.events(), result.Events) &&
		slices.Equal(d.problems(w, len(d.Mappings)), result.Problems)
}

// all decides about all pods.
func (r *renderer) all(w *world.World) *feature.Result {
	d, c := decide(w)
	m := &memory{decision: d, chooser: c, mapped: len(d.Mappings)}
	var list []*served
	for left := d.Mappings; len(left) > 0; {
		n := 0
		for n < len(left) && left[n].Pod == left[0].Pod {
			n++
		}
		if by := entrances(left[:n]); len(by) > 0 {
			now := &served{left[0].Pod, by}
			if r.last != nil {
				now = now.orSame(r.last.served)
			}
			list = append(list, now)
		}
		left = left[n:]
	}
	m.served = sorted.Of(list, compareServed)
	result := r.resultOf(w, m)
	result.Notes, result.Leads = d.notes(w), leads(w, d.Ports.List)
	if r.result != nil {
		result.Notes = result.Notes.Sharing(r.result.Notes, world.CompareNotes)
	}
	result.Counts = map[string]int{"allocated": d.Ports.List.Len(), "waiting": d.Waiting, "overLimit": d.Left, "free": d.Free}
	r.last = nil
	if w.Pods != nil && w.Selections != nil && d.settings.Enabled && !d.closed && d.recorded && d.Waiting+d.Left+len(d.lacking) == 0 {
		m.pods, m.selected = w.Pods.List, w.Selections
		d.Mappings, c.last, c.found = nil, nil, nil
		r.last = m
	}
	return result
}

// orSame is what list has of the same, if it has.
func (s *served) orSame(list sorted.List[*served]) *served {
	was, ok := list.Find(func(o *served) int { return compareServed(o, s) })
	if ok && was.pod == s.pod && slices.Equal(was.by, s.by) {
		return was
	}
	return s
}

// entrances are the ports that mappings of one pod were given.
func entrances(mappings []Mapping) []entrance {
	var out []entrance
	for i := range mappings {
		if m := &mappings[i]; !m.HostPort && m.Port.Number != 0 {
			out = append(out, entrance{m.Port, netip.AddrPortFrom(m.Address, m.PodPort)})
		}
	}
	return out
}

// resultOf is what follows from a decision, but for what there is of each pod besides
// its ports.
func (r *renderer) resultOf(w *world.World, m *memory) *feature.Result {
	d := m.decision
	result := &feature.Result{Problems: d.problems(w, m.mapped), Events: d.events()}
	if d.recorded {
		result.Allocations = Allocated.Only(d.Ports)
	}
	if d.Ports.List.Len() > 0 {
		result.Part.Tables = append(result.Part.Tables, r.table(m))
		result.Part.Settings = append(result.Part.Settings, feature.LiberalTCP)
	}
	if m.mapped > 0 {
		result.Reports = append(result.Reports, d.report(w))
	}
	return result
}

// mostSome bounds of how many pods is decided alone.
const mostSome = 256

// some decides about the pods that changed; nil where others may be concerned.
func (r *renderer) some(w *world.World, read reads) *feature.Result {
	m := r.last
	was := r.read
	was.pods = read.pods
	if m == nil || read != was || Allocated.Of(w.Allocations) == nil {
		return nil
	}
	r.last = nil // until it is known what comes of it
	gone, come := sorted.Differing(m.pods, w.Pods.List, world.ComparePods)
	changes, ok := changesOf(w.Node.Name, gone, come)
	if !ok {
		return nil
	}
	m.find(w)
	if !m.choose(changes) || !m.allot(changes) {
		return nil
	}
	m.pods, m.selected = w.Pods.List, w.Selections
	m.put(changes)
	result := r.resultOf(w, m)
	result.Leads = r.result.Leads
	if slices.ContainsFunc(changes, (*change).leadsUDP) {
		result.Leads = leads(w, m.decision.Ports.List)
	}
	result.Notes = notesWith(r.result.Notes, changes)
	result.Counts = map[string]int{"allocated": m.decision.Ports.List.Len(), "waiting": 0, "overLimit": 0, "free": m.decision.spaces.left()}
	r.last = m
	return result
}

// A change is one pod that changed, came or went.
type change struct {
	key      world.Key
	was, now *world.Pod // nil: there is none
	had      []entrance
	mappings []Mapping
	by       []entrance
}

// changesOf are those of the node's pods, in order; not where they are many, or have
// host ports, which may be others' too.
func changesOf(node string, gone, come []*world.Pod) (out []*change, ok bool) {
	for len(gone)+len(come) > 0 {
		c := &change{}
		switch {
		case len(come) == 0 || len(gone) > 0 && gone[0].Compare(come[0].Key) < 0:
			c.was, gone = gone[0], gone[1:]
			c.key = c.was.Key
		case len(gone) == 0 || come[0].Compare(gone[0].Key) < 0:
			c.now, come = come[0], come[1:]
			c.key = c.now.Key
		default:
			c.was, c.now, gone, come = gone[0], come[0], gone[1:], come[1:]
			c.key = c.now.Key
		}
		c.was, c.now = ofNode(c.was, node), ofNode(c.now, node)
		for _, p := range []*world.Pod{c.was, c.now} {
			if p != nil && len(p.Local.HostPorts) > 0 {
				return nil, false
			}
		}
		if c.was == nil && c.now == nil {
			continue
		}
		if out = append(out, c); len(out) > mostSome {
			return nil, false
		}
	}
	return out, true
}
