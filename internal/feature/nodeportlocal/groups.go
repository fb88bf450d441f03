package nodeportlocal

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// portKey is a port of a pod.
type portKey struct {
	port     uint16
	protocol byte
}

// portName is a port of a pod by its name.
type portName struct {
	name     string
	protocol byte
}

// A target is a port of its pods that Services with one selector choose.
type target struct {
	portKey
	families
	services []world.Key
}

// families are those that Services choose a port in.
type families uint8

const (
	inIPv4    families = 1 << iota
	inIPv6             // both: of each by itself
	inPrimary          // that of the pod's first address
	allFamilies
)

// familiesOf are those of a Service. One without would have got one of an API server.
func familiesOf(s *world.Service) (out families) {
	if s.IPv4 {
		out |= inIPv4
	}
	if s.IPv6 {
		out |= inIPv6
	}
	if out == 0 {
		return inPrimary
	}
	return out
}

// have reports whether a family is among f, for a pod whose first address is of IPv6
// or not.
func (f families) have(ipv6, primary bool) bool {
	return ipv6 && f&inIPv6 != 0 || !ipv6 && f&inIPv4 != 0 || ipv6 == primary && f&inPrimary != 0
}

// A group is what the Services of one namespace with one selector choose together:
// each port once, however many pods there are.
type group struct {
	services []*world.Service
	read     bool // what is below is there: it is made where a pod is selected
	targets  []target
	counts   [allFamilies]int // of targets, by families
	named    map[portName]*target
}

// groups are those of all Services that choose pods.
func (c *chooser) groups(services []*world.Service) {
	all := map[world.Selector]*group{}
	c.groupsBy = all
	for _, s := range services {
		if !c.selects(s) {
			continue
		}
		of := world.Selector{Namespace: s.Namespace, Labels: s.Selector}
		g := all[of]
		if g == nil {
			g = &group{}
			all[of] = g
		}
		g.services = append(g.services, s)
	}
	c.selected = selected{first: make(map[*world.Pod]int32, c.world.LocalPods.List.Len())}
	for of, g := range all {
		for p := range c.world.Selections.Of(of).Pods.All() {
			if p.Node == c.world.Node.Name {
				c.selected.add(p, g)
			}
		}
	}
}

// selected says which groups select a pod.
type selected struct {
	first map[*world.Pod]int32 // of a pod's, in all
	all   []ofPod
}

type ofPod struct {
	group *group
	next  int32 // one more than where the pod's next is; 0: there is none
}

func (s *selected) add(p *world.Pod, g *group) {
	s.all = append(s.all, ofPod{g, s.first[p]})
	s.first[p] = int32(len(s.all))
}

func (s *selected) of(p *world.Pod) iter.Seq[*group] {
	return func(yield func(*group) bool) {
		for i := s.first[p]; i > 0 && yield(s.all[i-1].group); {
			i = s.all[i-1].next
		}
	}
}

// selects reports whether s chooses ports of pods. One that asks for it and
// cannot is a mistake.
func (c *chooser) selects(s *world.Service) bool {
	value, asks := s.Annotations.Get(world.NodePortLocalEnabled)
	if !asks || value == "false" {
		return false
	}
	var reason, hint string
	switch {
	case value != "true":
		reason, hint = quote.Of(value)+" is neither true nor false", `write "true", or remove the annotation`
	case s.Type != "" && s.Type != "ClusterIP" && s.Type != "LoadBalancer":
		reason, hint = fmt.Sprintf("a Service of type %s selects no pods for it", s.Type), "make the Service one of type ClusterIP or LoadBalancer, or remove the annotation"
	case s.Selector == (world.Labels{}):
		reason, hint = "a Service without a selector selects no pods", "give the Service a selector, or remove the annotation"
	default:
		return true
	}
	c.mistakes = append(c.mistakes, world.Problem{Object: "Service " + s.Namespace + "/" + s.Name,
		Field: "metadata.annotations[" + world.NodePortLocalEnabled + "]", Reason: reason, Hint: hint})
	return false
}

// prepare makes the list of what g chooses.
func (g *group) prepare() {
	if g.read {
		return
	}
	g.read = true
	n := 0
	for _, s := range g.services {
		n += len(s.Ports)
	}
	g.targets = make([]target, 0, n)
	for _, s := range g.services {
		alone := []world.Key{s.Key} // of one Service, as most targets are: made once
		for _, port := range s.Ports {
			t := target{portKey{port.TargetPort, port.Protocol}, familiesOf(s), alone}
			if port.TargetPort != 0 {
				g.targets = append(g.targets, t)
				continue
			}
			name := portName{port.TargetName, port.Protocol}
			if g.named == nil {
				g.named = map[portName]*target{}
			}
			if there := g.named[name]; there != nil {
				there.with(&t)
			} else {
				named := t
				g.named[name] = &named
			}
		}
	}
	slices.SortStableFunc(g.targets, func(a, b target) int { return a.compare(b.portKey) })
	g.targets = merge(g.targets, func(a, b *target) bool { return a.portKey == b.portKey }, (*target).with)
	for i := range g.targets {
		g.counts[g.targets[i].families]++
	}
}

func (k portKey) compare(l portKey) int {
	return cmp.Or(cmp.Compare(k.port, l.port), cmp.Compare(k.protocol, l.protocol))
}

// with adds to t what u, which is of the same port, says.
func (t *target) with(u *target) {
	t.families |= u.families
	t.services = join(t.services, u.services)
}

// join is both lists, each key once, in order.
func join(a, b []world.Key) []world.Key {
	out := a
	for _, k := range b {
		if i, found := slices.BinarySearchFunc(out, k, world.Key.Compare); !found {
			out = slices.Insert(slices.Clone(out), i, k)
		}
	}
	return out
}

// merge makes one of neighbours that are the same, in place.
func merge[T any](list []T, same func(a, b *T) bool, add func(to, from *T)) []T {
	n := 0
	for i := range list {
		if n > 0 && same(&list[n-1], &list[i]) {
			add(&list[n-1], &list[i])
			continue
		}
		list[n] = list[i]
		n++
	}
	return list[:n]
}
