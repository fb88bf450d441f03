package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/view"
)

// getFlags say in what form an answer is shown.
type getFlags struct {
	from          *asked
	output        *string
	watch, events bool
}

func (g *getFlags) add(cmd *cobra.Command) {
	g.from, g.output = askedFlags(cmd), outputFlag(cmd)
	cmd.Flags().Lookup("output").Usage = "text, json, yaml, name, or wide (of snat)"
	cmd.Flags().BoolVarP(&g.watch, "watch", "w", false, "go on, and print rows that are new, changed or gone when they are; a row that is gone is printed as it was")
	cmd.Flags().BoolVar(&g.events, "output-watch-events", false, "with --watch, say ADDED, MODIFIED or DELETED of each row")
}

func (g *getFlags) check(of view.View) error {
	more := []string{"yaml", "name"}
	if of.Wide != nil {
		more = append(more, "wide")
	}
	if err := checkOutput(*g.output, more...); err != nil {
		return err
	}
	if g.watch && *g.output == "wide" {
		return misuse{errors.New("--watch prints rows, and -o wide is more than rows: use one of them")}
	}
	if g.watch && g.from.file() {
		return misuse{errors.New("--watch waits for changes, and a file never changes: leave out one of --watch and --from")}
	}
	if g.events && !g.watch {
		return misuse{errors.New("--output-watch-events needs --watch")}
	}
	return nil
}

// print shows an answer.
func (g *getFlags) print(w io.Writer, of view.View, answer view.Answer) error {
	switch *g.output {
	case "json":
		return printJSON(w, answer.Into())
	case "yaml":
		return printYAML(w, answer.Into())
	}
	rows := answer.Rows()
	if *g.output == "name" {
		for _, r := range rows.List {
			fmt.Fprintln(w, r.Name)
		}
		return nil
	}
	if err := printRows(w, rows); err != nil || *g.output != "wide" {
		return err
	}
	return of.Wide(w, answer)
}

func printRows(w io.Writer, rows view.Rows) error {
	if len(rows.List) == 0 {
		_, err := fmt.Fprintln(w, rows.None)
		return err
	}
	lines := [][]string{rows.Header}
	for _, r := range rows.List {
		lines = append(lines, r.Cells)
	}
	return new(view.Columns).Write(w, lines...)
}

func printYAML(w io.Writer, v any) error {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}
