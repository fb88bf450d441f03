package cli

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

func getCommand() *cobra.Command {
	shown := views()
	var names []string
	for _, v := range shown {
		names = append(names, v.Name)
	}
	cmd := &cobra.Command{
		Use:   "get " + strings.Join(names, "|"),
		Short: "Show what this node's agent knows",
		Example: `  fairlead get pods
  fairlead get nodes -o yaml
  fairlead get pods -o name
  fairlead get nodeportlocal --watch
  fairlead get snat -o wide
  fairlead get snat --who 192.0.2.1:40000
  fairlead get pods --from node.json`,
		ValidArgs: names,
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 1 && slices.Contains(c.ValidArgs, args[0]) {
			return nil
		}
		return fmt.Errorf("say what to get: %s", strings.Join(c.ValidArgs, ", "))
	}
	var g getFlags
	g.add(cmd)
	for _, v := range shown {
		for _, f := range v.Flags {
			cmd.Flags().String(f.Name, "", f.Usage)
		}
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		chosen := shown[slices.Index(names, args[0])]
		if err := g.check(chosen); err != nil {
			return err
		}
		question, err := questionTo(cmd, shown, chosen)
		if err != nil {
			return err
		}
		if g.watch {
			return g.follow(cmd, question)
		}
		path, answer, err := question()
		if err != nil {
			return misuse{err}
		}
		if err := g.from.ask(cmd, "/v1/"+path, answer.Into()); err != nil {
			return err
		}
		return g.print(cmd.OutOrStdout(), chosen, answer)
	}
	return cmd
}

// A question says what to ask the agent for, and has its empty answer.
type question func() (path string, answer view.Answer, err error)

// questionTo is what is asked of the chosen view with the flags as they are.
func questionTo(cmd *cobra.Command, shown []view.View, chosen view.View) (question, error) {
	out := func() (string, view.Answer, error) { return chosen.Name, chosen.New(), nil }
	for _, v := range shown {
		flags, err := questionOf(cmd, v)
		switch {
		case err != nil:
			return nil, err
		case len(flags) == 0:
		case v.Name != chosen.Name:
			return nil, misuse{fmt.Errorf("%s go with get %s", strings.Join(flagNames(v), " and "), v.Name)}
		default:
			out = func() (string, view.Answer, error) { return v.Ask(flags) }
		}
	}
	return out, nil
}

// questionOf is what is written of a view's own flags. An empty word, of a variable that
// is not set, is a mistake and no question.
func questionOf(cmd *cobra.Command, v view.View) (map[string]string, error) {
	out := map[string]string{}
	for _, f := range v.Flags {
		if !cmd.Flags().Changed(f.Name) {
			continue
		}
		value, err := cmd.Flags().GetString(f.Name)
		if err != nil {
			return nil, err
		}
		out[f.Name] = value
	}
	return out, nil
}

func flagNames(v view.View) (out []string) {
	for _, f := range v.Flags {
		out = append(out, "--"+f.Name)
	}
	return out
}

// views are all that people get: of every agent, and of the features.
func views() []view.View {
	out := []view.View{
		{Name: "pods", New: func() view.Answer {
			return &view.Table[agent.Pod]{Header: []string{"NAMESPACE", "NAME", "ADDRESSES", "LINK", "CONTAINER"}, None: "no pods",
				Name: func(p agent.Pod) string { return cmp.Or(path.Join(p.Namespace, p.Name), p.ContainerID) },
				Cells: func(p agent.Pod) []string {
					return []string{view.Dash(p.Namespace), view.Dash(p.Name), view.Join(p.Addresses), p.Link, p.ContainerID[:min(12, len(p.ContainerID))]}
				}}
		}},
		{Name: "nodes", New: func() view.Answer {
			return &view.Table[agent.Node]{Header: []string{"NAME", "ADDRESSES", "POD CIDRS", "SELF"}, None: "no nodes",
				Name: func(n agent.Node) string { return n.Name },
				Cells: func(n agent.Node) []string {
					return []string{n.Name, view.Join(n.Addresses), view.Join(n.PodCIDRs), view.Yes(n.Self)}
				}}
		}},
	}
	for _, f := range all.Features {
		out = append(out, f.Views...)
	}
	return append(out,
		view.View{Name: "problems", New: func() view.Answer {
			return &view.Table[world.Problem]{Header: []string{"OBJECT", "FIELD", "REASON", "HINT"}, None: "no problems",
				Name:  func(p world.Problem) string { return p.Object },
				Cells: func(p world.Problem) []string { return []string{p.Object, view.Dash(p.Field), p.Reason, p.Hint} }}
		}},
		view.View{Name: "events", New: newEvents})
}

func newEvents() view.Answer {
	return &view.Table[agent.Event]{Header: []string{"LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"}, None: "no events",
		Name: func(e agent.Event) string { return path.Join(e.Namespace, e.Name) },
		Cells: func(e agent.Event) []string {
			o := e.InvolvedObject
			return []string{e.LastTimestamp.Local().Format(time.TimeOnly), e.Type, e.Reason,
				o.Kind + " " + path.Join(o.Namespace, o.Name), fmt.Sprint(e.Count), e.Message}
		}}
}
