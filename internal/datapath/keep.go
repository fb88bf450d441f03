package datapath

import (
	"slices"

	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/tc"
)

// keeps are the links that s leaves alone, with their IFB devices.
func (s State) keeps() map[string]bool {
	var out map[string]bool
	for _, p := range s {
		for _, name := range p.Keep {
			if out == nil {
				out = map[string]bool{}
			}
			out[name], out[IFBLink(name)] = true, true
		}
	}
	return out
}

// Frees reports whether s leaves alone something that next does not. What is on it
// only the kernel knows.
func (s State) Frees(next State) bool {
	now := next.keeps()
	for name := range s.keeps() {
		if !now[name] {
			return true
		}
	}
	return false
}

// but returns p without the given links and what is on them. Gates are told apart
// from that: what is left alone is guarded all the same.
func (p Part) but(kept map[string]bool) Part {
	if len(kept) == 0 {
		return p
	}
	p.Links = leave(p.Links, kept, func(l *link.Link) string { return l.Name })
	p.Neighbours = leave(p.Neighbours, kept, func(n neigh.Neighbour) string { return n.Link })
	p.Routes = leave(p.Routes, kept, func(r route.Route) string { return r.Link })
	p.Shapers = leave(p.Shapers, kept, func(s tc.Shaper) string { return s.Link })
	p.Redirects = leave(p.Redirects, kept, func(r tc.Redirect) string { return r.Link })
	return p
}

func leave[T any](list []T, kept map[string]bool, of func(T) string) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return kept[of(v)] })
}
