package view

import "fmt"

// An Event is a change of a row. Its types are those of Kubernetes' watch events.
type Event struct {
	Type string
	Row  Row
}

// A Watch remembers rows in the form in which they were printed last.
type Watch struct {
	order []string
	rows  map[string]printed
}

type printed struct {
	row  Row
	text string
}

// Next returns what changed since the last call, and remembers rows. Rows of one name
// are told apart by their order.
func (w *Watch) Next(rows []Row, form func(Row) string) []Event {
	var out []Event
	now := Watch{rows: make(map[string]printed, len(rows))}
	times := map[string]int{}
	for _, row := range rows {
		times[row.Name]++
		key, is := fmt.Sprint(row.Name, " ", times[row.Name]), printed{row, form(row)}
		switch was, known := w.rows[key]; {
		case !known:
			out = append(out, Event{"ADDED", row})
		case was.text != is.text:
			out = append(out, Event{"MODIFIED", row})
		}
		now.order, now.rows[key] = append(now.order, key), is
	}
	for _, key := range w.order {
		if _, still := now.rows[key]; !still {
			out = append(out, Event{"DELETED", w.rows[key].row})
		}
	}
	*w = now
	return out
}
