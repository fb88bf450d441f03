package nft

import (
	"reflect"
	"slices"
	"strings"
)

// A Change is one step of a transaction. Its text is a command of nft(8).
type Change struct {
	text string
	send []step
	of   *Set      // what elements are of
	list []Element // that come or go; text is what stands before them
	ends bool
	made bool // a table
	late bool // of a table whose chains stand at devices

	device string // that must be there
}

// Makes reports whether c makes a table.
func (c Change) Makes() bool { return c.made }

// Ends reports whether c takes a whole table away, and puts nothing in its place.
func (c Change) Ends() bool { return c.ends }

// NeedsDevices reports whether c is of a table whose chains stand at devices, which must
// be there before.
func (c Change) NeedsDevices() bool { return c.late }

// String is the change in nft(8) syntax.
func (c Change) String() string {
	if c.of == nil {
		return c.text
	}
	return c.text + " " + c.of.list(c.list)
}

// Single returns the change in nft(8) syntax, as one command for each element
// where it is about elements.
func (c Change) Single() []string {
	if c.of == nil {
		return []string{c.text}
	}
	out := make([]string, len(c.list))
	for i := range c.list {
		out[i] = c.text + " " + c.of.list(c.list[i:i+1])
	}
	return out
}

// Diff returns what turns the tables that the kernel has into those wanted. A
// table gets what it lacks and loses what is not wanted; one that has a set or a
// chain of a wanted name but another kind is replaced whole, in the same
// transaction.
func Diff(have []*Found, want []*Table) []Change {
	var out []Change
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w *Table) bool { return w.id() == h.id() }) {
			c := deleteTable(h.id())
			c.ends = true
			out = append(out, c)
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(h *Found) bool { return h.id() == w.id() })
		var some []Change
		switch {
		case i < 0:
			some = addTable(w)
		case !have[i].canBecome(w):
			some = append([]Change{deleteTable(w.id())}, addTable(w)...)
		default:
			some = have[i].update(w)
		}
		for _, c := range some {
			c.late = w.Family == NetDev
			out = append(out, c)
		}
	}
	return out
}

// DiffTables is Diff for tables that are known to be in the kernel as they
// were rendered: nothing needs to be read.
func DiffTables(have, want []*Table) []Change {
	found := make([]*Found, len(have))
	for i, t := range have {
		found[i] = t.asFound()
	}
	return Diff(found, want)
}

// asFound is t as if the kernel had listed it, with rules for their bytecode.
func (t *Table) asFound() *Found {
	f := &Found{Family: t.Family, Name: t.Name, Sets: t.Sets}
	for _, c := range t.Chains {
		f.Chains = append(f.Chains, &FoundChain{Chain: *c})
	}
	return f
}

// canBecome reports whether what f has of w's names is of w's kinds.
func (f *Found) canBecome(w *Table) bool {
	sets, chains := byName(w.Sets, setName), byName(w.Chains, chainName)
	return !f.Foreign &&
		!slices.ContainsFunc(f.Sets, func(h *Set) bool {
			s, ok := sets[h.Name]
			return ok && !h.declaredAs(s)
		}) &&
		!slices.ContainsFunc(f.Chains, func(h *FoundChain) bool {
			c, ok := chains[h.Name]
			return ok && !h.declaredAs(c)
		})
}

func (s *Set) declaredAs(w *Set) bool {
	return s.Type == w.Type && s.Interval == w.Interval && s.Data == w.Data && s.DataInterval == w.DataInterval && s.Counted == w.Counted && s.Room == w.Room
}

func (c *Chain) declaredAs(w *Chain) bool {
	return c.Type == w.Type && c.Hook == w.Hook && c.Device == w.Device && c.Priority == w.Priority
}

func setName(s *Set) string          { return s.Name }
func chainName(c *Chain) string      { return c.Name }
func foundName(c *FoundChain) string { return c.Name }

func byName[T any](items []T, name func(T) string) map[string]T {
	out := make(map[string]T, len(items))
	for _, item := range items {
		out[name(item)] = item
	}
	return out
}

// update adds first and deletes last: a rule may need what is new, and nothing
// that goes may still be needed.
func (f *Found) update(w *Table) []Change {
	var out []Change
	sets, chains := byName(f.Sets, setName), byName(f.Chains, foundName)
	for i, s := range w.Sets {
		h, ok := sets[s.Name]
		if !ok {
			out = append(out, addSet(w.id(), s, uint32(i+1)))
			h = &Set{}
		}
		if h != s {
			gone, come := differing(h.Elements, s.Elements)
			out = append(out, deleteElements(w.id(), s, gone)...)
			out = append(out, addElements(w.id(), s, come)...)
		}
	}
	for _, c := range w.Chains {
		if _, ok := chains[c.Name]; !ok {
			out = append(out, addChain(w.id(), c))
		}
	}
	for _, c := range w.Chains {
		h, ok := chains[c.Name]
		if ok && h.holds(c.Rules) {
			continue
		}
		if ok {
			out = append(out, flushChain(w.id(), c.Name))
		}
		out = append(out, addRules(w.id(), c)...)
	}
	return append(out, f.deletions(w)...)
}

// deletions are what f has and w does not. Rules go first: they refer to sets
// and chains. Then sets: maps of others may refer to chains.
func (f *Found) deletions(w *Table) []Change {
	sets, chains := byName(w.Sets, setName), byName(w.Chains, chainName)
	var rules, delSets, delChains []Change
	for _, c := range f.Chains {
		if chains[c.Name] == nil {
			rules = append(rules, flushChain(w.id(), c.Name))
			delChains = append(delChains, deleteChain(w.id(), c.Name))
		}
	}
	for _, s := range f.Sets {
		if sets[s.Name] == nil {
			delSets = append(delSets, deleteSet(w.id(), s))
		}
	}
	return slices.Concat(rules, delSets, delChains)
}

// holds reports whether c has the rules. Rules that are the same in memory are
// not looked at; those of a file have other words for the same code.
func (c *FoundChain) holds(rules []Rule) bool {
	if len(c.Rules) > 0 {
		return reflect.DeepEqual(c.Rules, rules) || slices.EqualFunc(c.Rules, rules, Rule.same)
	}
	return slices.EqualFunc(c.Code, rules, FoundRule.is)
}

// Text is the changes as a file for nft -f.
func Text(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}
