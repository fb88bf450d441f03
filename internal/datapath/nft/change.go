package nft

import (
	"slices"
	"strings"
)

// A Change is one step of a transaction. Its text is a command of nft(8).
type Change struct {
	text string
	send []step
}

// String is the change in nft(8) syntax.
func (c Change) String() string { return c.text }

// Diff returns what turns the tables that the kernel has into those wanted. A
// table whose sets and chains are in place gets new elements and new rules
// only; one whose shape differs is replaced whole, in the same transaction.
func Diff(have []*Found, want []*Table) []Change {
	var out []Change
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w *Table) bool { return w.Name == h.Name }) {
			out = append(out, deleteTable(h.Name))
		}
	}
	for _, w := range want {
		i := slices.IndexFunc(have, func(h *Found) bool { return h.Name == w.Name })
		switch {
		case i < 0:
			out = append(out, addTable(w)...)
		case !have[i].shapedLike(w):
			out = append(append(out, deleteTable(w.Name)), addTable(w)...)
		default:
			out = append(out, have[i].update(w)...)
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

// asFound is how the kernel would list t.
func (t *Table) asFound() *Found {
	f := &Found{Name: t.Name, Sets: t.Sets}
	for _, c := range t.Chains {
		fc := FoundChain{Chain: Chain{Name: c.Name, Type: c.Type, Hook: c.Hook, Priority: c.Priority}}
		for _, r := range c.Rules {
			fc.Code = append(fc.Code, encode(r.expressions()))
		}
		f.Chains = append(f.Chains, fc)
	}
	return f
}

func (f *Found) shapedLike(w *Table) bool {
	return !f.Dormant && len(f.Sets) == len(w.Sets) && len(f.Chains) == len(w.Chains) &&
		!slices.ContainsFunc(w.Sets, func(s *Set) bool { return f.set(s) == nil }) &&
		!slices.ContainsFunc(w.Chains, func(c *Chain) bool { return f.chain(c) == nil })
}

// set returns the kernel's set that is declared as s is.
func (f *Found) set(s *Set) *Set {
	i := slices.IndexFunc(f.Sets, func(h *Set) bool {
		return h.Name == s.Name && h.Type == s.Type && h.Interval == s.Interval &&
			h.Data == s.Data && h.DataInterval == s.DataInterval
	})
	if i < 0 {
		return nil
	}
	return f.Sets[i]
}

// chain returns the kernel's chain that is declared as c is.
func (f *Found) chain(c *Chain) *FoundChain {
	i := slices.IndexFunc(f.Chains, func(h FoundChain) bool {
		return h.Name == c.Name && h.Type == c.Type && h.Hook == c.Hook && h.Priority == c.Priority
	})
	if i < 0 {
		return nil
	}
	return &f.Chains[i]
}

func (f *Found) update(w *Table) []Change {
	var out []Change
	for _, s := range w.Sets {
		if h := f.set(s); h != s {
			out = append(out, deleteElements(w.Name, s, without(h.Elements, s.Elements))...)
			out = append(out, addElements(w.Name, s, without(s.Elements, h.Elements))...)
		}
	}
	for _, c := range w.Chains {
		if !f.chain(c).holds(c.Rules) {
			out = append(out, flushChain(w.Name, c.Name))
			out = append(out, addRules(w.Name, c)...)
		}
	}
	return out
}

func (c *FoundChain) holds(rules []Rule) bool {
	return slices.EqualFunc(c.Code, rules, FoundRule.is)
}

// Text is the changes as a file for nft -f.
func Text(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(c.text + "\n")
	}
	return b.String()
}
