package view_test

import (
	"fmt"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/view"
)

// Rows that share a name, such as two Problems of one object, are told apart.
func TestWatchTellsWhatBecameOfRows(t *testing.T) {
	t.Parallel()
	row := func(name, text string) view.Row { return view.Row{Name: name, Cells: []string{text}} }
	var w view.Watch
	for _, step := range []struct {
		rows []view.Row
		want []string
	}{
		{nil, nil},
		{[]view.Row{row("a", "1"), row("a", "2"), row("b", "1")}, []string{"ADDED a 1", "ADDED a 2", "ADDED b 1"}},
		{[]view.Row{row("a", "1"), row("a", "2"), row("b", "1")}, nil},
		{[]view.Row{row("b", "1"), row("a", "1"), row("a", "3")}, []string{"MODIFIED a 3"}},
		{[]view.Row{row("c", "1"), row("a", "1")}, []string{"ADDED c 1", "DELETED b 1", "DELETED a 3"}},
		{nil, []string{"DELETED c 1", "DELETED a 1"}},
		{[]view.Row{row("a", "1")}, []string{"ADDED a 1"}},
	} {
		var got []string
		for _, e := range w.Next(step.rows, func(r view.Row) string { return r.Cells[0] }) {
			got = append(got, fmt.Sprint(e.Type, " ", e.Row.Name, " ", e.Row.Cells[0]))
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("of %v became %v, want %v", step.rows, got, step.want)
		}
	}
}
