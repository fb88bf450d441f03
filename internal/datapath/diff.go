package datapath

import (
	"fmt"
	"strings"

	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
)

// A Kernel is what a node's kernel holds of what we own.
type Kernel struct {
	tables []*nft.Found
	rest   Part
}

// Wires is the number of pods' wires that the kernel holds.
func (k Kernel) Wires() int {
	n := 0
	for _, l := range k.rest.Links {
		if l.Veth != nil {
			n++
		}
	}
	return n
}

// Changes turn what the kernel has into what it should have. They print
// themselves in the order in which they are made.
type Changes struct {
	nft      []nft.Change
	links    []link.Change
	settings []sysctl.Setting
	add      entries
	del      entries
	delLinks []link.Change
}

type entries struct {
	neighbours []neigh.Neighbour
	routes     []route.Route
}

// Diff returns the changes from what the kernel was found to hold.
func Diff(have Kernel, want State) Changes {
	whole := want.flatten()
	c := diffRest(have.rest, whole)
	c.nft = nft.Diff(have.tables, whole.Tables)
	return c
}

// DiffStates returns the changes from a state that the kernel is known to
// hold. It costs what changed: equal parts are not looked at.
func DiffStates(have, want State) Changes {
	old, now := have.without(want).flatten(), want.without(have).flatten()
	c := diffRest(old, now)
	c.nft = nft.DiffTables(old.Tables, now.Tables)
	return c
}

func diffRest(have, want Part) Changes {
	var c Changes
	c.links, c.delLinks = link.Diff(have.Links, want.Links)
	gone := map[string]bool{} // what hung on these links is gone
	for _, l := range c.links {
		gone[l.Link] = gone[l.Link] || l.New
	}
	left := func(link string) bool { return !gone[link] }
	c.add.neighbours, c.del.neighbours = diffBy(have.Neighbours, want.Neighbours, neigh.Neighbour.Key,
		func(n neigh.Neighbour) bool { return left(n.Link) })
	c.add.routes, c.del.routes = diffBy(have.Routes, want.Routes, route.Route.Key,
		func(r route.Route) bool { return left(r.Link) })
	c.settings, _ = diffBy(have.Settings, want.Settings, func(s sysctl.Setting) string { return s.Key },
		func(s sysctl.Setting) bool { return left(linkOf(s)) })
	return c
}

// diffBy returns what of want is not in have, and what of have has a key that
// nothing in want has. What is not left counts as not there.
func diffBy[T comparable, K comparable](have, want []T, key func(T) K, left func(T) bool) (add, del []T) {
	there, wanted := map[T]bool{}, map[K]bool{}
	for _, h := range have {
		there[h] = left(h)
	}
	for _, w := range want {
		wanted[key(w)] = true
		if !there[w] {
			add = append(add, w)
		}
	}
	for _, h := range have {
		if left(h) && !wanted[key(h)] {
			del = append(del, h)
		}
	}
	return add, del
}

// Empty reports whether nothing is to be changed.
func (c Changes) Empty() bool { return c.Len() == 0 }

// Len is the number of changes.
func (c Changes) Len() int { return len(c.nft) + len(c.steps()) }

// String is the changes as commands, one a line, in the order of Apply.
func (c Changes) String() string {
	var b strings.Builder
	for _, l := range c.Lines() {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// Lines is the changes as commands.
func (c Changes) Lines() []string {
	out := []string{}
	for _, n := range c.nft {
		out = append(out, fmt.Sprintf("nft %s", n))
	}
	for _, s := range c.steps() {
		out = append(out, s.text())
	}
	return out
}

// Settings returns the settings that are changed.
func (c Changes) Settings() []sysctl.Setting { return c.settings }

// About returns the changes that concern the named link.
func (c Changes) About(link string) string {
	var b strings.Builder
	for _, s := range c.steps() {
		if s.link == link {
			b.WriteString(s.text() + "\n")
		}
	}
	return b.String()
}
