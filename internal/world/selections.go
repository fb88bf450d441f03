package world

import (
	"cmp"
	"iter"
	"slices"

	"fairlead.dev/fairlead/internal/sorted"
)

// A Selector is what pods are selected by: their namespace, and labels that they have
// all of. Who asks for the same pods has the same Selector, which is compared with ==.
type Selector struct {
	Namespace string
	Labels    Labels // none: all pods of the namespace
}

// Selects reports whether p has what s asks for.
func (s Selector) Selects(p *Pod) bool {
	if p.Namespace != s.Namespace {
		return false
	}
	for name, value := range s.Labels.All() {
		if has, ok := p.Labels.Get(name); !ok || has != value {
			return false
		}
	}
	return true
}

// CompareSelectors orders selectors by namespace, then by labels.
func CompareSelectors(s, t Selector) int {
	return cmp.Or(cmp.Compare(s.Namespace, t.Namespace), s.Labels.compare(t.Labels))
}

// A Selection is the pods of a Selector. While none of them changes it keeps its pointer.
type Selection struct {
	Selector
	Pods sorted.List[*Pod]
}

// CompareSelections orders selections by selector.
func CompareSelections(s, t *Selection) int { return CompareSelectors(s.Selector, t.Selector) }

// Selections are the pods that objects ask for, each Selector once, in the order of
// [CompareSelections]; also those that select no pod.
type Selections struct{ List sorted.List[*Selection] }

// Of returns the selection of a Selector; nil where nobody asks for it.
func (s *Selections) Of(t Selector) *Selection {
	out, _ := s.List.Find(func(one *Selection) int { return CompareSelectors(one.Selector, t) })
	return out
}

// Asks are the selectors that s asks for.
func (s *Service) Asks() []Selector {
	if value, _ := s.Annotations.Get(NodePortLocalEnabled); value != "true" || s.Selector == (Labels{}) {
		return nil
	}
	return []Selector{{s.Namespace, s.Selector}}
}

// Selecting makes Selections. It remembers the last ones, and makes of the pods and
// Services that changed since what differs: a pod is compared with those selectors that
// ask for one of its labels. A new one makes the same.
type Selecting struct {
	asked *sorted.Each[*Service, Selector]
	by    *Sorted[Service]
	pods  sorted.List[*Pod]
	of    sorted.List[Selector]
	index selectorIndex
	last  *Selections
}

// NewSelecting returns a Selecting that remembers nothing.
func NewSelecting() *Selecting {
	return &Selecting{asked: sorted.NewEach((*Service).Asks, compareServices, CompareSelectors), index: selectorIndex{}, last: &Selections{}}
}

// Selected yields of each pod how many Selections have it, and makes none of them.
func Selected(pods *Pods, services *Sorted[Service]) iter.Seq[int] {
	return func(yield func(int) bool) {
		index, has := selectorIndex{}, map[Selector]bool{}
		for _, s := range services.List {
			for _, t := range s.Asks() {
				if !has[t] {
					has[t] = true
					index.add(t)
				}
			}
		}
		for p := range pods.List.All() {
			n := 0
			if index.each(p, func(Selector) { n++ }); !yield(n) {
				return
			}
		}
	}
}

func compareServices(s, t *Service) int { return s.Compare(t.Key) }

// Of returns the selections of pods that Services ask for: the last ones, where nothing
// of them changed.
func (s *Selecting) Of(pods *Pods, services *Sorted[Service]) *Selections {
	selectors := s.of
	if s.by != services {
		s.by, selectors = services, s.asked.Of(sorted.Of(slices.Clone(services.List), compareServices))
	}
	goneSelectors, newSelectors := sorted.Differing(s.of, selectors, CompareSelectors)
	gonePods, newPods := sorted.Differing(s.pods, pods.List, ComparePods)
	s.of, s.pods = selectors, pods.List
	for _, t := range goneSelectors {
		s.index.remove(t)
	}
	changes := map[Selector]*selectionChange{}
	for _, p := range gonePods {
		s.index.each(p, func(t Selector) { change(changes, t).gone = append(change(changes, t).gone, p) })
	}
	for _, p := range newPods {
		s.index.each(p, func(t Selector) { change(changes, t).come = append(change(changes, t).come, p) })
	}
	s.addNew(newSelectors, pods.List, changes)
	var gone, come []*Selection
	for _, t := range goneSelectors {
		gone = append(gone, s.last.Of(t))
	}
	for t, c := range changes {
		now := &Selection{Selector: t}
		if was := s.last.Of(t); was != nil {
			gone, now.Pods = append(gone, was), was.Pods
		}
		now.Pods = now.Pods.With(c.gone, c.come, ComparePods)
		come = append(come, now)
	}
	if len(gone)+len(come) > 0 {
		slices.SortFunc(gone, CompareSelections)
		slices.SortFunc(come, CompareSelections)
		s.last = &Selections{s.last.List.With(gone, come, CompareSelections)}
	}
	return s.last
}

// addNew looks for the pods of selectors that nobody asked for before, once through
// those of each namespace.
func (s *Selecting) addNew(selectors []Selector, pods sorted.List[*Pod], to map[Selector]*selectionChange) {
	for len(selectors) > 0 {
		namespace, only := selectors[0].Namespace, selectorIndex{}
		for len(selectors) > 0 && selectors[0].Namespace == namespace {
			change(to, selectors[0]) // also without pods
			only.add(selectors[0])
			s.index.add(selectors[0])
			selectors = selectors[1:]
		}
		for p := range pods.From(func(p *Pod) int { return cmp.Compare(p.Namespace, namespace) }) {
			if p.Namespace != namespace {
				break
			}
			only.each(p, func(t Selector) { to[t].come = append(to[t].come, p) })
		}
	}
}

// A selectionChange is the pods that go and come of one Selection, in order.
type selectionChange struct{ gone, come []*Pod }

func change(all map[Selector]*selectionChange, t Selector) *selectionChange {
	c := all[t]
	if c == nil {
		c = &selectionChange{}
		all[t] = c
	}
	return c
}

// A label is one that selectors of a namespace ask for; without a name, of those that
// ask for none.
type label struct{ namespace, name, value string }

// A selectorIndex has each selector by one of the labels that it asks for: that which
// fewest had been put under.
type selectorIndex map[label][]Selector

func (x selectorIndex) add(s Selector) {
	best := label{namespace: s.Namespace}
	first := true
	for name, value := range s.Labels.All() {
		if l := (label{s.Namespace, name, value}); first || len(x[l]) < len(x[best]) {
			best, first = l, false
		}
	}
	x[best] = append(x[best], s)
}

func (x selectorIndex) remove(s Selector) {
	for name, value := range s.Labels.All() {
		x.removeAt(label{s.Namespace, name, value}, s)
	}
	x.removeAt(label{namespace: s.Namespace}, s)
}

func (x selectorIndex) removeAt(l label, s Selector) {
	if i := slices.Index(x[l], s); i >= 0 {
		if x[l] = slices.Delete(x[l], i, i+1); len(x[l]) == 0 {
			delete(x, l)
		}
	}
}

// each calls f with each selector that selects p.
func (x selectorIndex) each(p *Pod, f func(Selector)) {
	at := func(l label) {
		for _, s := range x[l] {
			if s.Selects(p) {
				f(s)
			}
		}
	}
	at(label{namespace: p.Namespace})
	for name, value := range p.Labels.All() {
		at(label{p.Namespace, name, value})
	}
}
