package cli

import (
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/world"
)

func getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get pods|nodes|snat|nodeportlocal|problems|events",
		Short: "Show what this node's agent knows",
		Example: `  fairlead get pods
  fairlead get snat -o wide
  fairlead get snat --who 192.0.2.1:40000`,
		ValidArgs: []string{"pods", "nodes", "snat", "nodeportlocal", "problems", "events"},
	}
	cmd.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 1 && slices.Contains(c.ValidArgs, args[0]) {
			return nil
		}
		return fmt.Errorf("say what to get: %s", strings.Join(c.ValidArgs, ", "))
	}
	socket, output, who := socketFlag(cmd), outputFlag(cmd), whoFlags(cmd)
	cmd.Flags().Lookup("output").Usage = "text, json, or wide (of snat)"
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, v := "/v1/"+args[0], views[args[0]]()
		var more []string
		if args[0] == "snat" {
			more = []string{"wide"}
		}
		if err := checkOutput(*output, more...); err != nil {
			return err
		}
		if *output == "wide" {
			v = wideSNAT{snatTable()}
		}
		if question, asks, err := who.ask(args[0]); err != nil {
			return err
		} else if asks {
			path, v = question, &holders{}
		}
		if err := ask(cmd.Context(), *socket, path, v.answer()); err != nil {
			return err
		}
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), v.answer())
		}
		return v.print(cmd.OutOrStdout())
	}
	return cmd
}

// A view is one kind of thing and its table.
type view interface {
	answer() any
	print(io.Writer) error
}

type table[T any] struct {
	list   agent.List[T]
	header []string
	row    func(T) []string
	none   string
}

func (t *table[T]) answer() any { return &t.list }

func (t *table[T]) print(w io.Writer) error {
	if len(t.list.Items) == 0 {
		_, err := fmt.Fprintln(w, t.none)
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.header, "\t"))
	for _, item := range t.list.Items {
		fmt.Fprintln(tw, strings.Join(t.row(item), "\t"))
	}
	return tw.Flush()
}

var views = map[string]func() view{
	"pods": func() view {
		return &table[agent.Pod]{header: []string{"NAMESPACE", "NAME", "ADDRESSES", "LINK", "CONTAINER"}, none: "no pods",
			row: func(p agent.Pod) []string {
				return []string{dash(p.Namespace), dash(p.Name), join(p.Addresses), p.Link, p.ContainerID[:min(12, len(p.ContainerID))]}
			}}
	},
	"nodes": func() view {
		return &table[agent.Node]{header: []string{"NAME", "ADDRESSES", "POD CIDRS", "SELF"}, none: "no nodes",
			row: func(n agent.Node) []string {
				return []string{n.Name, join(n.Addresses), join(n.PodCIDRs), yes(n.Self)}
			}}
	},
	"snat": func() view { return snatTable() },
	"nodeportlocal": func() view {
		return &table[nodeportlocal.Shown]{header: []string{"NAMESPACE", "POD", "POD PORT", "NODE PORT", "STATE", "SERVICES"}, none: "no ports: no Service selects pods of this node, or the agent is not ready",
			row: func(n nodeportlocal.Shown) []string {
				node := "-"
				if n.NodePort != 0 {
					node = netip.AddrPortFrom(n.NodeIP, n.NodePort).String()
				}
				return []string{n.Namespace, n.Pod, fmt.Sprintf("%s/%s", netip.AddrPortFrom(n.PodIP, n.PodPort), n.Protocol), node, n.State, strings.Join(n.Services, ",")}
			}}
	},
	"problems": func() view {
		return &table[world.Problem]{header: []string{"OBJECT", "FIELD", "REASON", "HINT"}, none: "no problems",
			row: func(p world.Problem) []string { return []string{p.Object, dash(p.Field), p.Reason, p.Hint} }}
	},
	"events": func() view { return eventTable() },
}

func eventTable() *table[agent.Event] {
	return &table[agent.Event]{header: []string{"LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE"}, none: "no events",
		row: func(e agent.Event) []string {
			o := e.InvolvedObject
			return []string{e.LastTimestamp.Local().Format(time.TimeOnly), e.Type, e.Reason,
				o.Kind + " " + path.Join(o.Namespace, o.Name), fmt.Sprint(e.Count), e.Message}
		}}
}

func join[T netip.Addr | netip.Prefix](items []T) string {
	words := make([]string, len(items))
	for i, item := range items {
		words[i] = fmt.Sprint(item)
	}
	return dash(strings.Join(words, ","))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
