package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/view"
)

// askAgain is how soon the agent is asked again at the earliest, while the answer changes
// all the time.
const askAgain = time.Second

// follow prints what the agent answers, and again what changes of it, until the command is
// interrupted or the agent does not answer.
func (g *getFlags) follow(cmd *cobra.Command, ask question) error {
	var watch view.Watch
	out := events{form: *g.output, typed: g.events, out: cmd.OutOrStdout()}
	agent := follower{socket: *g.from.socket}
	for first := true; ; first = false {
		path, answer, err := ask()
		if err != nil {
			return misuse{err}
		}
		if err := agent.next(cmd.Context(), "/v1/"+path, answer.Into()); err != nil {
			return err
		}
		rows := answer.Rows()
		if first && len(rows.List) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), rows.None)
		}
		if err := out.print(rows.Header, watch.Next(rows.List, out.text)); err != nil {
			return err
		}
	}
}

// A follower has answers of an agent, each when it differs from the one before.
type follower struct {
	socket string
	tag    string    // of the last answer
	asked  time.Time // when
}

// next waits for the next answer, and fills it in. The agent answers when something
// changed, or says after a while that nothing did.
func (f *follower) next(ctx context.Context, path string, answer any) error {
	for {
		time.Sleep(time.Until(f.asked.Add(askAgain)))
		f.asked = time.Now()
		header := http.Header{"Prefer": {fmt.Sprintf("wait=%d", patience/time.Second)}, "If-None-Match": {f.tag}}
		response, err := request(ctx, f.socket, path, header)
		if err != nil {
			return err
		}
		if response.StatusCode == http.StatusOK {
			f.tag = response.Header.Get("ETag")
			err = json.NewDecoder(response.Body).Decode(answer)
		}
		response.Body.Close()
		if err != nil || response.StatusCode == http.StatusOK {
			return err
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
