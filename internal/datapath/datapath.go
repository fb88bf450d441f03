// Package datapath says what a node's kernel must hold, and makes it so.
//
// A [State] is a value. [Diff] compares what the kernel has with what it should
// have and returns [Changes], which print themselves as commands of nft(8),
// ip(8), bridge(8) and sysctl(8); [Apply] makes them. Only the nftables part is
// atomic. The rest is ordered, each step idempotent: what is new comes before
// what is old goes, and routes, which lead packets into all the rest, come last.
package datapath

import (
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/rtnl"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/datapath/tc"
)

// A State is everything a node must hold, in parts. A part that keeps its
// pointer from one state to the next has not changed, and Diff passes over it.
type State []*Part

// A Part is what one feature needs in the kernel. No two parts hold the same
// table, link, route, rule, neighbour, proxy or guest, or say how the same link queues or
// what comes in by it; they may agree
// on a setting.
type Part struct {
	Tables     []*nft.Table
	Links      []*link.Link
	Neighbours []neigh.Neighbour
	Proxies    []neigh.Proxy
	Routes     []route.Route
	Rules      []route.Rule // that lead to tables of routes
	Settings   []sysctl.Setting
	Shapers    []tc.Shaper
	Redirects  []tc.Redirect
	Gates      []gate.Gate
	Guests     []nft.Guest
	// Keep names links that are left alone with all that is on them: what is there
	// stays, and nothing is made.
	Keep []string
}

// NFT is the state's tables in nft(8) syntax.
func (s State) NFT() string {
	var b strings.Builder
	for _, p := range s {
		for _, t := range p.Tables {
			b.WriteString(t.String())
		}
	}
	return b.String()
}

// IP is the rest of the state as the commands that would make it, one a line.
func (s State) IP() string {
	whole := s.flatten()
	var lines []string
	for _, l := range whole.Links {
		lines = append(lines, l.Text())
	}
	for _, v := range whole.Settings {
		lines = append(lines, v.String())
	}
	for _, s := range whole.Shapers {
		lines = append(lines, s.String())
	}
	for _, r := range whole.Redirects {
		lines = append(lines, r.Commands(FilterPref)...)
	}
	for _, g := range whole.Gates {
		lines = append(lines, g.String())
	}
	for _, g := range whole.Guests {
		lines = append(lines, g.String())
	}
	for _, n := range whole.Neighbours {
		lines = append(lines, neigh.Add(n).String())
	}
	for _, r := range whole.Routes {
		lines = append(lines, route.Add{Route: r, Protocol: RouteProtocol}.String())
	}
	for _, r := range whole.Rules {
		lines = append(lines, route.AddRule{Rule: r, Protocol: RouteProtocol}.String())
	}
	for _, p := range whole.Proxies {
		lines = append(lines, neigh.AddProxy{Proxy: p, Protocol: RouteProtocol}.String())
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// flatten joins the parts to one.
func (s State) flatten() Part {
	if len(s) == 1 {
		out := *s[0]
		out.Settings = s.settings()
		return out
	}
	out := Part{Settings: s.settings()}
	for _, p := range s {
		out.Tables = append(out.Tables, p.Tables...)
		out.Links = append(out.Links, p.Links...)
		out.Neighbours = append(out.Neighbours, p.Neighbours...)
		out.Proxies = append(out.Proxies, p.Proxies...)
		out.Routes = append(out.Routes, p.Routes...)
		out.Rules = append(out.Rules, p.Rules...)
		out.Shapers = append(out.Shapers, p.Shapers...)
		out.Redirects = append(out.Redirects, p.Redirects...)
		out.Gates = append(out.Gates, p.Gates...)
		out.Guests = append(out.Guests, p.Guests...)
	}
	return out
}

// settings are those of all parts, each once.
func (s State) settings() []sysctl.Setting {
	var out []sysctl.Setting
	listed := map[sysctl.Setting]bool{}
	for _, p := range s {
		for _, v := range p.Settings {
			if !listed[v] {
				listed[v] = true
				out = append(out, v)
			}
		}
	}
	return out
}

// link returns the part's link of the given name, or nil.
func (p *Part) link(name string) *link.Link {
	i := slices.IndexFunc(p.Links, func(l *link.Link) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return p.Links[i]
}

// Forwarding6 is the key of the setting that has a node forward IPv6.
const Forwarding6 = "net/ipv6/conf/all/forwarding"

// AcceptRA is the key of the setting that says whether an interface takes
// routes from router advertisements: 1 only while it does not forward, 2 always.
func AcceptRA(ifname string) string { return "net/ipv6/conf/" + ifname + "/accept_ra" }

// ReversePathFilter is the key of the setting that says which IPv4 packets an
// interface takes: 0 all, 1 those whose answers would leave by it, 2 those that
// can be answered at all. The greater of it and that of "all" holds (Linux
// Documentation/networking/ip-sysctl.rst).
func ReversePathFilter(ifname string) string { return "net/ipv4/conf/" + ifname + "/rp_filter" }

// Values of it. What is loose looks up a route for each packet.
const (
	NoReversePath     = "0"
	StrictReversePath = "1"
	LooseReversePath  = "2"
)

// linkOf is the link that a setting is about, if it is about one: it is born and
// goes with it.
func linkOf(s sysctl.Setting) string {
	words := strings.Split(s.Key, "/")
	if len(words) == 5 && words[2] == "conf" && words[3] != "all" && words[3] != "default" {
		return words[3]
	}
	return ""
}

// Settled reports whether the kernel's settings and proxies are those of s. They
// announce no change, so one has to look; of other namespaces somebody else does,
// since there are many.
func (s State) Settled() (bool, error) {
	var links []*link.Link
	for _, p := range s {
		links = append(links, p.Links...)
	}
	if len(links) > 0 {
		if settled, err := link.Settled(links); err != nil || !settled {
			return false, err
		}
	}
	if proxied, err := s.proxied(); err != nil || !proxied {
		return false, err
	}
	for _, p := range s {
		for _, v := range p.Settings {
			if v.Netns != "" {
				continue
			}
			value, err := sysctl.Read(v.Key)
			if err != nil || value != v.Value {
				return false, err
			}
		}
	}
	return true, nil
}

// proxied reports whether the kernel has all proxies of s.
func (s State) proxied() (bool, error) {
	var want []neigh.Proxy
	for _, p := range s {
		want = append(want, p.Proxies...)
	}
	if len(want) == 0 {
		return true, nil
	}
	c, err := rtnl.Dial()
	if err != nil {
		return false, err
	}
	defer c.Close()
	have, err := link.Whole(func() ([]neigh.Proxy, error) { return neigh.ReadProxies(c, RouteProtocol) })
	if err != nil {
		return false, err
	}
	answer, _ := diffProxies(have, want)
	return len(answer) == 0, nil
}

// without returns the parts of s that are not, by pointer, in other.
func (s State) without(other State) State {
	return slices.DeleteFunc(slices.Clone(s), func(p *Part) bool { return slices.Contains(other, p) })
}
