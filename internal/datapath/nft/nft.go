// Package nft describes nftables tables as plain values and makes the kernel
// hold them.
//
// A [Table] is what we want the kernel to hold, whole. It prints itself in
// nft(8) syntax, and [Apply] sends a [Change] list to the kernel in one batch:
// all of it takes effect, or none. [Read] returns the kernel's tables as the
// same values, so that [Diff] compares like with like.
//
// Every word of a rule has two faces in one place: its text, and the bytecode
// the kernel runs. The twin tests prove that they agree. Nobody outside this
// package sees a register, an offset or a netlink attribute.
//
// Sources: Linux include/uapi/linux/netfilter/nf_tables.h; nft(8).
package nft

import (
	"fmt"
	"strings"
)

// A Table is the complete content of one table of the inet family.
type Table struct {
	Name   string
	Sets   []*Set
	Chains []*Chain
}

// A Set is named and holds elements of one type. Rules refer to it by name, so
// its elements can change without touching a rule.
type Set struct {
	Name     string
	Type     Type
	Interval bool // elements are ranges
	Elements []Element
}

// A Chain is a base chain when Hook is set, and one to jump to otherwise.
type Chain struct {
	Name     string
	Type     ChainType
	Hook     Hook
	Priority int
	Rules    []Rule
}

// ChainType is the kind of a base chain.
type ChainType string

// The kinds of base chain in use.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
)

// Hook is the place in the packet path where a base chain stands.
type Hook string

// The hooks of the inet family in use.
const (
	Prerouting  Hook = "prerouting"
	Forward     Hook = "forward"
	Postrouting Hook = "postrouting"
)

var hookNumbers = map[Hook]uint32{Prerouting: 0, Forward: 2, Postrouting: 4}

func hookName(n uint32) Hook {
	for name, number := range hookNumbers {
		if number == n {
			return name
		}
	}
	return Hook(fmt.Sprintf("hook%d", n))
}

// A Rule matches on every word in order; the last one is usually a verdict.
type Rule []Expr

// String returns t in nft(8) syntax, ready for nft -f.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", t.Name)
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
	fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.Name, s.Type.Name())
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	if len(s.Elements) > 0 {
		fmt.Fprintf(&b, "\t\telements = %s\n", s.list(s.Elements))
	}
	b.WriteString("\t}\n")
	return b.String()
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
	return fmt.Sprintf("type %s hook %s priority %d; policy accept;", c.Type, c.Hook, c.Priority)
}

// String returns r as one line of nft(8) syntax.
func (r Rule) String() string {
	words := make([]string, len(r))
	for i, e := range r {
		words[i] = e.text()
	}
	return strings.Join(words, " ")
}
