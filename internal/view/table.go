package view

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// A Table is a list with a row for each item.
type Table[T any] struct {
	List   List[T]
	Header []string
	Name   func(T) string
	Cells  func(T) []string
	None   string // what is said of an empty list
}

// Into is part of Answer.
func (t *Table[T]) Into() any { return &t.List }

// Rows is part of Answer.
func (t *Table[T]) Rows() Rows {
	out := Rows{Header: t.Header, None: t.None}
	for _, item := range t.List.Items {
		out.List = append(out.List, Row{t.Name(item), t.Cells(item), item})
	}
	return out
}

// Columns puts cells below each other. It remembers how wide they were, so that what
// is written later lines up with what is there.
type Columns struct{ widths []int }

// Write writes rows of cells.
func (c *Columns) Write(w io.Writer, rows ...[]string) error {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(c.widths) {
				c.widths = append(c.widths, 0)
			}
			c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			fmt.Fprintf(&b, "%-*s  ", c.widths[i], cell)
		}
		b.WriteString(row[len(row)-1] + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
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
