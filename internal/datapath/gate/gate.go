// Package gate keeps watch at a link's entrance or exit with a small BPF program:
// what may not come in by the link is dropped and counted before anything else of the
// node sees it, and what may not leave by it behind everything else.
//
// A [Gate] is a value, from which follow the program's instructions. The program
// stands first in the link's tcx hook (Linux 6.6), a new wire's for a while among the
// filters of tc, bears a name of ours that is a hash of its instructions, and goes with
// the link. Programs of others on the
// same hook are asked after it. The few addresses of a pod are part of the
// instructions; a longer list is in a trie, so that a peer that comes is one entry.
package gate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Gate says what comes in by Link: IPv4 and IPv6 that is not for the node's
// loopback, from one of the sources; and ARP of them, or of who has no address yet.
// Nothing may be left to be written into its addresses or ports: see unfinished.go.
// One at the exit says what leaves: see To.
type Gate struct {
	Link string
	// Egress: the gate is at the link's exit.
	Egress  bool
	Sources []netip.Prefix
	// Set: the sources are looked up in a trie, where one more is one entry; else they
	// are part of the instructions, which suits few that stay.
	Set bool
	// Neighbour is the link-local address of a pod, if it has one. From it comes
	// everything but what routers say, and from no address yet (::) what finds out
	// whether an address is taken and which groups are listened to (RFC 4861, RFC
	// 4862, RFC 3810).
	Neighbour netip.Addr
	// To is for whom packets from the sources leave, in a trie. What is from elsewhere
	// leaves in any case.
	To []netip.Prefix
	// Priority is what skb->priority has to be, and stays: rules may ask for it too. 0:
	// whatever.
	Priority uint32

	found *program // of one that was read
}

// A program is a gate as the kernel shows it.
type program struct {
	name   string
	trie   []netip.Prefix
	filter bool // see young.go
}

// Young reports whether the gate, which was read, is not yet where it stays: see [Settle].
func (g Gate) Young() bool { return g.found != nil && g.found.filter }

// hasTrie reports whether the gate has a trie. Behind instructions for everybody
// none could be reached, which the verifier wants.
func (g Gate) hasTrie() bool {
	return g.Egress || g.Set || slices.ContainsFunc(g.Sources, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// remembers reports whether the gate remembers whom it found in its trie.
func (g Gate) remembers() bool { return g.hasTrie() && !g.Egress }

// trie is what is in the trie, if there is one.
func (g Gate) trie() []netip.Prefix {
	if g.Egress {
		return g.To
	}
	return g.Sources
}

// program is what the kernel shows of g.
func (g Gate) program() program {
	if g.found != nil {
		return *g.found
	}
	p := program{name: nameOf(code(g, maps{}))}
	if g.hasTrie() {
		p.trie = g.trie()
	}
	return p
}

// same reports whether the kernel does the same for g and h but for what is in
// their tries.
func (g Gate) same(h Gate) bool {
	if g.found == nil && h.found == nil {
		return g.Neighbour == h.Neighbour && g.Priority == h.Priority && g.hasTrie() == h.hasTrie() &&
			(g.hasTrie() && !g.Egress || slices.Equal(g.Sources, h.Sources))
	}
	return g.program().name == h.program().name
}

// String says what the gate lets in. There is no command of iproute2 that does.
func (g Gate) String() string {
	var b strings.Builder
	b.WriteString(g.at().String())
	if g.Priority != 0 {
		fmt.Fprintf(&b, " priority %x:%x", g.Priority>>16, g.Priority&0xffff)
	}
	if g.Neighbour.IsValid() {
		fmt.Fprintf(&b, " neighbour %s", g.Neighbour)
	}
	from := " from"
	if g.Set {
		from += " set"
	}
	b.WriteString(from)
	b.WriteString(list("", g.Sources))
	if g.Egress {
		b.WriteString(" to")
		b.WriteString(list("", g.To))
	}
	return b.String()
}

// A place is where a gate can be: each has one at most.
type place struct {
	link   string
	egress bool
}

func (g Gate) at() place { return place{g.Link, g.Egress} }

func (p place) String() string {
	if p.egress {
		return "gate dev " + p.link + " egress"
	}
	return "gate dev " + p.link
}

func text(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// A Change is one step towards the wanted gates, on Link.
type Change struct {
	Link  string
	Shuts bool // there was no such gate before
	Young bool // it begins elsewhere than where it stays: see Settle
	// Alone: it needs no rules that know packets before it, and rules may lead more to
	// it than before.
	Alone bool
	text  string
	apply func() error
}

func (c Change) String() string { return c.text }

// Apply makes the change.
func (c Change) Apply() error {
	if err := c.apply(); err != nil {
		return fmt.Errorf("%s: %w", c.about(), err)
	}
	return nil
}

// about is the change in few words: a list of sources may be long.
func (c Change) about() string {
	const most = 200
	if len(c.text) <= most {
		return c.text
	}
	return c.text[:most] + "…"
}

// Diff returns the changes that turn the gates in have into those wanted. What is
// on a link that is not left counts as not there.
func Diff(have, want []Gate, left func(link string) bool) (add, del []Change) {
	there := make(map[place]Gate, len(have))
	for _, h := range have {
		if left(h.Link) {
			there[h.at()] = h
		}
	}
	for _, w := range want {
		h, found := there[w.at()]
		delete(there, w.at())
		switch {
		case !found || !h.same(w):
			add = append(add, Change{Link: w.Link, Shuts: true, Young: w.young(), Alone: w.Priority == 0, text: w.String(), apply: func() error { return attach(w) }})
		case w.hasTrie():
			if c, differs := refill(h, w); differs {
				add = append(add, c)
			}
		}
	}
	for _, h := range have {
		if _, is := there[h.at()]; is {
			del = append(del, Change{Link: h.Link, text: h.at().String() + " open", apply: func() error { return detach(h.at()) }})
		}
	}
	return add, del
}

// refill changes what is in the trie of a gate.
func refill(have, want Gate) (Change, bool) {
	old, now := have.program().trie, want.trie()
	if len(old) == len(now) && (len(now) == 0 || &old[0] == &now[0]) {
		return Change{}, false // nearly always: a pod came
	}
	were, are := setOf(old), setOf(now)
	come, gone := missing(now, were), missing(old, are)
	if len(come)+len(gone) == 0 {
		return Change{}, false
	}
	line := want.at().String() + list(" add", come) + list(" delete", gone)
	return Change{Link: want.Link, Alone: want.Egress && len(come) > 0, text: line, apply: func() error { return fill(want.at(), come, gone) }}, true
}

// list is a word and the prefixes behind it, if there are any.
func list(word string, ps []netip.Prefix) string {
	if len(ps) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(word)
	for _, p := range ps {
		b.WriteString(" " + text(p))
	}
	return b.String()
}

func setOf(ps []netip.Prefix) map[netip.Prefix]bool {
	out := make(map[netip.Prefix]bool, len(ps))
	for _, p := range ps {
		out[p] = true
	}
	return out
}

// missing is what of ps is not in the set.
func missing(ps []netip.Prefix, set map[netip.Prefix]bool) (out []netip.Prefix) {
	for _, p := range ps {
		if !set[p] {
			out = append(out, p)
		}
	}
	return out
}
