package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/view"
)

// askAgain is how long a watch waits between two questions.
const askAgain = time.Second

// follow prints what get answers, and again what changes of it, until the command is
// interrupted or the agent does not answer.
func (g *getFlags) follow(cmd *cobra.Command, get func() (view.Answer, error)) error {
	var watch view.Watch
	out := events{form: *g.output, typed: g.events, out: cmd.OutOrStdout()}
	for first := true; ; first = false {
		answer, err := get()
		if err != nil {
			return err
		}
		rows := answer.Rows()
		if first && len(rows.List) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), rows.None)
		}
		if err := out.print(rows.Header, watch.Next(rows.List, out.text)); err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(askAgain):
		}
	}
}

// events prints what becomes of rows.
type events struct {
	form    string // of -o
	typed   bool   // with the type of each event
	out     io.Writer
	columns view.Columns
	headed  bool
}

// text is what is printed of a row. A row whose text is the same did not change.
func (e *events) text(r view.Row) string {
	switch e.form {
	case "text":
		return strings.Join(r.Cells, "\t")
	case "name":
		return r.Name
	}
	text, _ := json.Marshal(r.Item) // as it was before it was read
	return string(text)
}

func (e *events) print(header []string, list []view.Event) error {
	if len(list) == 0 {
		return nil
	}
	var lines [][]string
	line := func(kind string, cells ...string) {
		if e.typed {
			cells = append([]string{fmt.Sprintf("%-8s", kind)}, cells...)
		}
		lines = append(lines, cells)
	}
	if e.form == "text" && !e.headed {
		line("EVENT", header...)
		e.headed = true
	}
	for _, event := range list {
		switch e.form {
		case "text":
			line(event.Type, event.Row.Cells...)
		case "name":
			line(event.Type, event.Row.Name)
		default:
			if err := e.item(event); err != nil {
				return err
			}
		}
	}
	return e.columns.Write(e.out, lines...)
}

// item prints a row for programs.
func (e *events) item(event view.Event) error {
	v := event.Row.Item
	if e.typed {
		v = map[string]any{"type": event.Type, "object": v}
	}
	if e.form == "json" {
		return printJSON(e.out, v)
	}
	fmt.Fprintln(e.out, "---")
	return printYAML(e.out, v)
}
