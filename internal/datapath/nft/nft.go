// Package nft describes nftables tables as plain values and makes the kernel
// hold them.
//
// A [Table] is what we want the kernel to hold, whole. It prints itself in
// nft(8) syntax, and [Apply] sends a [Change] list to the kernel in one batch:
// all of it takes effect, or none. [Read] returns the kernel's tables as the
// same values, so that [Diff] compares like with like.
//
// Every word of a rule has two faces in one place: its text, and the bytecode
// the kernel runs. The twin tests prove that they agree, except for [SNAT] of
// IPv6 with ports, which nft(8) 1.0.6 lists but cannot load. Nobody outside this
// package sees a register, an offset or a netlink attribute.
//
// A set with data is a map. Keys and values are bytes as they stand in packets
// and in the kernel's registers; [Addr], [Port], [Ether], [Number], [Tuple] and
// [Block] make them.
//
// Sources: Linux include/uapi/linux/netfilter/nf_tables.h; nft(8).
package nft

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Table is the complete content of one table.
type Table struct {
	Family TableFamily `json:",omitempty"`
	Name   string
	Sets   []*Set
	Chains []*Chain
}

// TableFamily is which packets the chains of a table may see.
type TableFamily string

// The families of tables in use.
const (
	Inet TableFamily = ""
	// NetDev is of frames at a device, where there is no conntrack. Words about IP
	// addresses and IP families say something else there, and do not stand there.
	NetDev TableFamily = "netdev"
)

// tableFamilies are those that tables of ours can have.
var tableFamilies = []TableFamily{Inet, NetDev}

func (f TableFamily) keyword() string {
	if f == Inet {
		return "inet"
	}
	return string(f)
}

// number is the family as the kernel counts (include/uapi/linux/netfilter.h).
func (f TableFamily) number() byte {
	return map[TableFamily]byte{Inet: unix.NFPROTO_INET, NetDev: unix.NFPROTO_NETDEV}[f]
}

// A tableID is what a table is known by.
type tableID struct {
	family TableFamily
	name   string
}

func (t *Table) id() tableID { return tableID{t.Family, t.Name} }
func (f *Found) id() tableID { return tableID{f.Family, f.Name} }

// String is the table as commands of nft(8) name it.
func (t tableID) String() string { return t.family.keyword() + " " + t.name }

// A Set is named and holds elements of one type. Rules refer to it by name, so
// its elements can change without touching a rule. With Data it is a map: each
// key leads to a value.
type Set struct {
	Name         string
	Type         Type
	Interval     bool // keys are ranges
	Data         Type // of the values of a map; zero: no map
	DataInterval bool // values are ranges
	Counted      bool // each element counts the packets that it matches: see [Counts]
	// Room is for how many elements there is room; 0: for any number. The kernel looks
	// them up several times as fast where it is told (net/netfilter/nft_set_hash.c).
	Room     uint32
	Elements Elements
}

// A Chain is a base chain when Hook is set, and one to jump to otherwise.
type Chain struct {
	Name     string
	Type     ChainType
	Hook     Hook
	Device   string `json:",omitempty"` // whose packets it sees, of a table of family [NetDev]
	Priority int
	Rules    []Rule
}

// ChainType is the kind of a base chain.
type ChainType string

// The kinds of base chain in use.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
	Route  ChainType = "route" // of the output hook: a packet whose mark changes is routed anew
)

// Hook is the place in the packet path where a base chain stands.
type Hook string

// The hooks in use.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
	Egress      Hook = "egress" // of family [NetDev], since Linux 5.16: what the device is to send
)

// hooks are the places of each family in the kernel's order (enum nf_inet_hooks and
// nf_dev_hooks of include/uapi/linux/netfilter.h).
var hooks = map[TableFamily][]Hook{
	Inet:   {Prerouting, Input, Forward, Output, Postrouting},
	NetDev: {"ingress", Egress},
}

func (h Hook) number(f TableFamily) uint32 { return uint32(slices.Index(hooks[f], h)) }

func hookName(f TableFamily, n uint32) Hook {
	if int(n) < len(hooks[f]) {
		return hooks[f][n]
	}
	return Hook(fmt.Sprintf("hook%d", n))
}

// A Rule matches on every word in order; the last one is usually a verdict.
type Rule []Expr

// String returns t in nft(8) syntax, ready for nft -f.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s {\n", t.id())
	for _, s := range t.Sets {
		b.WriteString(s.block())
	}
	for _, c := range t.Chains {
		b.WriteString(c.block())
	}
	b.WriteString("}\n")
	return b.String()
}

func (s *Set) block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\t%s %s {\n\t\ttype %s\n", s.keyword(), s.Name, s.types())
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	if s.Room > 0 {
		fmt.Fprintf(&b, "\t\tsize %d\n", s.Room)
	}
	if s.Counted {
		b.WriteString("\t\tcounter\n")
	}
	if s.Elements.Len() > 0 {
		fmt.Fprintf(&b, "\t\telements = %s\n", s.list(s.Elements.list.Slice()))
	}
	b.WriteString("\t}\n")
	return b.String()
}

func (s *Set) keyword() string {
	if s.Data != 0 {
		return "map"
	}
	return "set"
}

// types is what s holds, as nft(8) declares it.
func (s *Set) types() string {
	text := s.Type.Name()
	if s.Data != 0 {
		text += " : "
		if s.DataInterval {
			text += "interval "
		}
		text += s.Data.Name()
	}
	return text
}

func (s *Set) list(elements []Element) string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = s.text(e)
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

func (c *Chain) block() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
	if c.Hook != "" {
		fmt.Fprintf(&b, "\t\t%s\n", c.base())
	}
	for _, r := range c.Rules {
		b.WriteString("\t\t" + r.String() + "\n")
	}
	b.WriteString("\t}\n")
	return b.String()
}

func (c *Chain) base() string {
	at := string(c.Hook)
	if c.Device != "" {
		at += fmt.Sprintf(" device %q", c.Device)
	}
	return fmt.Sprintf("type %s hook %s priority %d; policy accept;", c.Type, at, c.Priority)
}

// String returns r as one line of nft(8) syntax.
func (r Rule) String() string {
	words := make([]string, len(r))
	for i, e := range r {
		words[i] = e.text()
	}
	return strings.Join(words, " ")
}
