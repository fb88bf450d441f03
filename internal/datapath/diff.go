package datapath

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/datapath/tc"
)

// A Kernel is what a node's kernel holds of what we own.
type Kernel struct {
	tables []*nft.Found
	rest   Part
	open   map[nft.Place]bool // chains of others that there are
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
	first []step
	nft   []nft.Change
	steps []step
	late  []nft.Change // of tables whose chains stand at devices
	ends  []nft.Change // tables that go
}

func newChanges(rules []nft.Change, steps []step) Changes {
	var c Changes
	for _, s := range steps {
		if s.first {
			c.first = append(c.first, s)
		} else {
			c.steps = append(c.steps, s)
		}
	}
	for _, r := range rules {
		if r.Ends() {
			c.ends = append(c.ends, r)
		} else if r.NeedsDevices() {
			c.late = append(c.late, r)
		} else {
			c.nft = append(c.nft, r)
		}
	}
	return c
}

// A step is one change outside nftables.
type step struct {
	kind   Kind
	link   string // what it hangs on
	makes  bool   // the link itself
	addr   netip.Addr
	closes bool // what must be there before the link comes up, or anything leads to it
	first  bool // it comes before the rules
	late   bool // packets that are on the way may need what it takes away
	change fmt.Stringer
	apply  func() error // nil: change is a rtnl.Change
}

// gone reports whether s removes a link.
func (s step) gone() bool {
	l, ok := s.change.(link.Change)
	return ok && l.Gone
}

// Diff returns the changes from what the kernel was found to hold.
func Diff(have Kernel, want State) Changes {
	whole := want.flatten()
	whole.Guests = slices.DeleteFunc(slices.Clone(whole.Guests), func(g nft.Guest) bool { return !have.open[g.Place] })
	whole.Gates = slices.DeleteFunc(slices.Clone(whole.Gates), func(g gate.Gate) bool {
		return !g.Egress && whole.link(g.Link) == nil && have.rest.link(g.Link) == nil // there is nothing to keep shut
	})
	return newChanges(nft.Diff(have.tables, whole.Tables), diffRest(have.rest.but(want.keeps()), whole))
}

// DiffStates returns the changes from a state that the kernel is known to
// hold. It costs what changed: equal parts are not looked at.
func DiffStates(have, want State) Changes {
	kept := want.keeps()
	old, now := have.without(want).flatten().but(kept), want.without(have).flatten()
	steps := diffRest(old, now)
	if slices.ContainsFunc(steps, func(s step) bool { return s.makes && old.link(s.link) != nil }) {
		// A part that did not change may have something on a link made anew.
		steps = diffRest(have.flatten().but(kept), want.flatten())
	}
	return newChanges(nft.DiffTables(old.Tables, now.Tables), steps)
}

// setting is what s sets, if it does; zero otherwise.
func (s step) setting() sysctl.Setting {
	v, _ := s.change.(sysctl.Setting)
	return v
}

// undone are the settings that are still to be made so, or kept so.
func undone(settings []sysctl.Setting) []sysctl.Setting {
	if !slices.ContainsFunc(settings, isDone) {
		return settings
	}
	return slices.DeleteFunc(slices.Clone(settings), isDone)
}

func isDone(s sysctl.Setting) bool { return s.Done }

// diffRest returns the steps in the order in which they are made.
func diffRest(have, want Part) []step {
	var out []step
	links, delLinks := link.Diff(have.Links, want.Links)
	gone := map[string]bool{} // what hung on these links is gone
	var rise []step
	for _, l := range links {
		gone[l.Link] = gone[l.Link] || l.New
		if l.Rises {
			rise = append(rise, linkStep(l))
		} else {
			out = append(out, linkStep(l))
		}
	}
	left := func(link string) bool { return !gone[link] }
	settings, _ := diffBy(undone(have.Settings), undone(want.Settings), func(s sysctl.Setting) sysctl.Setting { return sysctl.Setting{Netns: s.Netns, Key: s.Key} },
		func(s sysctl.Setting) bool { return left(linkOf(s)) })
	for _, s := range settings {
		out = append(out, step{kind: KindSetting, link: linkOf(s), change: s, apply: func() error { return sysctl.Apply(s) }})
	}
	addNeighbours, delNeighbours := diffBy(have.Neighbours, want.Neighbours, neigh.Neighbour.Key,
		func(n neigh.Neighbour) bool { return left(n.Link) })
	addRoutes, delRoutes := diffBy(have.Routes, want.Routes, route.Route.Key,
		func(r route.Route) bool { return left(r.Link) })
	going := map[string]bool{} // what hangs on these links goes with them
	for _, l := range delLinks {
		going[l.Link] = true
	}
	stays := func(link string) bool { return !gone[link] && !going[link] }
	shut, open := diffGates(have, want, gone, stays)
	out = append(out, shut...)
	out = append(out, rise...)
	shape, unshape := tc.DiffShapers(have.Shapers, want.Shapers, stays)
	lead, unlead := tc.DiffRedirects(have.Redirects, want.Redirects, stays, FilterPref)
	for _, q := range slices.Concat(shape, lead) {
		out = append(out, step{kind: KindQdisc, link: q.Link, change: q.Change})
	}
	out = append(out, diffGuests(have.Guests, want.Guests)...)
	own := &route.Networks{}
	for _, n := range addNeighbours {
		out = append(out, step{kind: kindOf(n), link: n.Link, addr: n.Addr, change: neigh.Add(n)})
	}
	for _, r := range addRoutes {
		out = append(out, step{kind: KindRoute, link: r.Link, addr: r.Dst.Addr(), change: route.Add{Route: r, Protocol: RouteProtocol, Own: own}})
	}
	ruled, unruled := diffRules(have.Rules, want.Rules)
	answer, silence := diffProxies(have.Proxies, want.Proxies)
	// Proxies bring packets to the node: they come when their way is there, and go before it.
	out = slices.Concat(out, ruled, answer, silence, unruled)
	for _, r := range delRoutes {
		out = append(out, step{kind: KindRoute, link: r.Link, addr: r.Dst.Addr(), change: route.Delete{Route: r, Protocol: RouteProtocol}})
	}
	turned := leadElsewhere(have.Routes, addRoutes)
	for _, n := range delNeighbours {
		out = append(out, step{kind: kindOf(n), link: n.Link, addr: n.Addr, change: neigh.Delete(n), late: turned})
	}
	out = append(out, open...)
	for _, q := range slices.Concat(unlead, unshape) {
		out = append(out, step{kind: KindQdisc, link: q.Link, change: q.Change})
	}
	for _, l := range delLinks {
		out = append(out, linkStep(l))
	}
	return out
}

// diffGates returns the steps that shut gates, and those that open them. A link that
// is left alone is not taken down for want of its gate: nobody would bring it up.
func diffGates(have, want Part, gone map[string]bool, stays func(link string) bool) (shut, open []step) {
	add, del := gate.Diff(have.Gates, want.Gates, stays)
	for _, g := range add {
		shut = append(shut, step{kind: KindGate, link: g.Link, closes: g.Shuts && want.link(g.Link) != nil,
			first: g.Alone && !gone[g.Link], change: g, apply: g.Apply})
	}
	for _, g := range del {
		open = append(open, step{kind: KindGate, link: g.Link, change: g, apply: g.Apply})
	}
	return shut, open
}

// diffProxies returns the steps by which the node begins to answer for addresses, and
// those by which it ends.
func diffProxies(have, want []neigh.Proxy) (answer, silence []step) {
	come, gone := diffBy(have, want, neigh.Proxy.Key, func(neigh.Proxy) bool { return true })
	for _, p := range come {
		answer = append(answer, step{kind: KindProxy, link: p.Link, addr: p.Addr, change: neigh.AddProxy{Proxy: p, Protocol: RouteProtocol}})
	}
	for _, p := range gone {
		silence = append(silence, step{kind: KindProxy, link: p.Link, addr: p.Addr, change: neigh.DeleteProxy{Proxy: p, Protocol: RouteProtocol}})
	}
	return answer, silence
}

// diffRules returns the steps that lead packets to tables, and from them.
func diffRules(have, want []route.Rule) (lead, unlead []step) {
	come, gone := diffBy(have, want, func(r route.Rule) route.Rule { return r }, func(route.Rule) bool { return true })
	byRank := func(a, b route.Rule) int { return a.Rank() - b.Rank() }
	slices.SortStableFunc(come, byRank)
	slices.SortStableFunc(gone, func(a, b route.Rule) int { return byRank(b, a) })
	there := slices.Clone(have)
	change := func(r route.Rule, c fmt.Stringer) {
		lead = append(lead, step{kind: KindRoutingRule, addr: r.From.Addr(), change: c})
	}
	for len(come) > 0 {
		r := come[0]
		come = come[1:]
		// What the kernel would take r for goes first, and comes again if it is wanted: but of
		// two that are one to it either way there is only one.
		inTheWay := func(h route.Rule) bool { return h.Hides(r) && (slices.Contains(gone, h) || !r.Hides(h)) }
		for at := slices.IndexFunc(there, inTheWay); at >= 0; at = slices.IndexFunc(there, inTheWay) {
			h := there[at]
			change(h, route.DeleteRule{Rule: h, Protocol: RouteProtocol})
			there = slices.Delete(there, at, at+1)
			if g := slices.Index(gone, h); g >= 0 {
				gone = slices.Delete(gone, g, g+1)
			} else {
				come = append(come, h)
			}
		}
		change(r, route.AddRule{Rule: r, Protocol: RouteProtocol})
		there = append(there, r)
	}
	for _, r := range gone {
		unlead = append(unlead, step{kind: KindRoutingRule, addr: r.From.Addr(), change: route.DeleteRule{Rule: r, Protocol: RouteProtocol}})
	}
	return lead, unlead
}

// diffGuests returns the steps that make our rules in others' chains those wanted.
func diffGuests(have, want []nft.Guest) []step {
	var out []step
	come, gone := diffBy(have, want, func(g nft.Guest) nft.Guest { return g }, func(nft.Guest) bool { return true })
	for _, g := range come {
		out = append(out, step{kind: KindGuest, change: g, apply: g.Insert})
	}
	for _, g := range gone {
		out = append(out, step{kind: KindGuest, change: nft.Gone{Guest: g}, apply: g.Delete})
	}
	return out
}

// leadElsewhere reports whether one of the routes to add takes the place of
// another to the same destination.
func leadElsewhere(have, add []route.Route) bool {
	adds := make(map[route.Route]bool, len(add))
	for _, r := range add {
		adds[r.Key()] = true
	}
	return len(add) > 0 && slices.ContainsFunc(have, func(r route.Route) bool { return adds[r.Key()] })
}

func linkStep(c link.Change) step {
	return step{kind: Kind(c.About), link: c.Link, makes: c.New, change: c, apply: c.Apply}
}

func kindOf(n neigh.Neighbour) Kind {
	if n.Forward {
		return KindForwarding
	}
	return KindNeighbour
}

// diffBy returns what of want is not in have, and what of have has a key that
// nothing in want has. What is not left counts as not there.
func diffBy[T comparable, K comparable](have, want []T, key func(T) K, left func(T) bool) (add, del []T) {
	have, want = differing(have, want, left)
	there, wanted := make(map[T]bool, len(have)), make(map[K]bool, len(want))
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

// differing leaves out what have and want begin and end with alike, which is
// nearly all where one entry of many comes or goes.
func differing[T comparable](have, want []T, left func(T) bool) (h, w []T) {
	for len(have) > 0 && len(want) > 0 && have[0] == want[0] && left(have[0]) {
		have, want = have[1:], want[1:]
	}
	for n, m := len(have)-1, len(want)-1; n >= 0 && m >= 0 && have[n] == want[m] && left(have[n]); n, m = n-1, m-1 {
		have, want = have[:n], want[:m]
	}
	return have, want
}

// Empty reports whether nothing is to be changed.
func (c Changes) Empty() bool { return c.Len() == 0 }

// Len is the number of changes.
func (c Changes) Len() int {
	return len(c.first) + len(c.nft) + len(c.steps) + len(c.late) + len(c.ends)
}

// MakesTables reports whether tables are made: connections may have begun without
// what they do.
func (c Changes) MakesTables() bool { return slices.ContainsFunc(c.nft, nft.Change.Makes) }

// ChangesRules reports whether anything of nftables is changed or made.
func (c Changes) ChangesRules() bool { return len(c.nft)+len(c.late) > 0 }

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
	for _, s := range c.first {
		out = append(out, s.change.String())
	}
	for _, n := range c.nft {
		out = append(out, fmt.Sprintf("nft %s", n))
	}
	for _, s := range c.steps {
		out = append(out, s.change.String())
	}
	for _, n := range slices.Concat(c.late, c.ends) {
		out = append(out, fmt.Sprintf("nft %s", n))
	}
	return out
}

// Settings returns the settings that are changed.
func (c Changes) Settings() []sysctl.Setting {
	var out []sysctl.Setting
	for _, s := range c.steps {
		if v, ok := s.change.(sysctl.Setting); ok {
			out = append(out, v)
		}
	}
	return out
}

// About returns the changes that concern the named link.
func (c Changes) About(link string) string {
	var b strings.Builder
	for _, s := range slices.Concat(c.first, c.steps) {
		if s.link == link {
			b.WriteString(s.change.String() + "\n")
		}
	}
	return b.String()
}
