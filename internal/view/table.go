package view

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
)

// A View is one kind of thing that people get from an agent, by its name.
type View struct {
	Name string
	// New is an empty answer, and how people see it; wide: with all that is known.
	New func(wide bool) Printer
	// Wide: there is more to see.
	Wide bool
	// Flags are the flags of a question of its own, with their usage.
	Flags []Flag
	// Ask is that question: what to ask the agent for, and its answer.
	Ask func(flags map[string]string) (path string, answer Printer, err error)
}

// A Flag is one of the command line that takes a word.
type Flag struct{ Name, Usage string }

// A Printer is an answer of an agent. Answer is what to decode it into.
type Printer interface {
	Answer() any
	Print(io.Writer) error
}

// A Table is a list with a line for each item.
type Table[T any] struct {
	List   List[T]
	Header []string
	Row    func(T) []string
	None   string // what is said of an empty list
}

// Answer is part of Printer.
func (t *Table[T]) Answer() any { return &t.List }

// Print is part of Printer.
func (t *Table[T]) Print(w io.Writer) error {
	if len(t.List.Items) == 0 {
		_, err := fmt.Fprintln(w, t.None)
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.Header, "\t"))
	for _, item := range t.List.Items {
		fmt.Fprintln(tw, strings.Join(t.Row(item), "\t"))
	}
	return tw.Flush()
}

// Join puts commas between items; "-" stands for none.
func Join[T netip.Addr | netip.Prefix](items []T) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = fmt.Sprint(item)
	}
	return Dash(strings.Join(words, ","))
}

// Dash is s, or "-" for nothing.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Yes is b in a word.
func Yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
