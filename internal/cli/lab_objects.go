package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fairlead.dev/fairlead/internal/view"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/lab"
)

// labChange is apply or delete.
func labChange(open opener, verb string) *cobra.Command {
	var file string
	var noWait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:     verb + " -f FILE|DIR|-",
		Short:   map[string]string{"apply": "Store objects and wait until they are applied", "delete": "Delete objects and wait until they are gone"}[verb],
		Example: "  fairlead lab " + verb + " -f pods.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			files, err := manifests(file, c.InOrStdin())
			if err != nil {
				return misuse{err}
			}
			change := lab.Change{Files: files, Wait: timeout}
			if noWait {
				change.Wait = 0
			}
			do := map[string]func(context.Context, lab.Change) (lab.Result, error){"apply": l.Apply, "delete": l.Delete}[verb]
			ctx, cancel := interruptible(timeout + 10*time.Second)
			defer cancel()
			result, err := do(ctx, change)
			if err != nil {
				return err
			}
			return outcome(result)
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file or directory of manifests; - is standard input")
	c.Flags().BoolVar(&noWait, "no-wait", false, "return at once")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait")
	return c
}

func manifests(path string, stdin io.Reader) ([]lab.Manifest, error) {
	switch path {
	case "":
		return nil, fmt.Errorf("say what with -f FILE|DIR")
	case "-":
		content, err := io.ReadAll(io.LimitReader(stdin, 1<<24))
		if err == nil && len(bytes.TrimSpace(content)) == 0 {
			err = errors.New("standard input is empty: there is nothing to do")
		}
		return []lab.Manifest{{Source: "stdin", Content: content}}, err
	}
	return lab.ReadManifests(path)
}

// outcome is the exit of apply, delete and wait, and what they have to say.
func outcome(r lab.Result) error {
	lines := append([]string(nil), r.Lagging...)
	if said := sentences(append(r.Rejected, r.Problems...)); said != "" {
		lines = append([]string{said}, lines...)
	}
	switch {
	case len(r.Rejected) > 0:
		return misuse{fmt.Errorf("%s", strings.Join(lines, "\n"))}
	case len(lines) > 0:
		return fmt.Errorf("%s", strings.Join(lines, "\n"))
	}
	return nil
}

func labWait(open opener) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:     "wait",
		Short:   "Wait until every agent has applied everything written so far",
		Example: "  fairlead lab wait --timeout 30s",
		RunE: func(_ *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			ctx, cancel := interruptible(timeout)
			defer cancel()
			result, err := l.Wait(ctx)
			if err != nil {
				return err
			}
			return outcome(result)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait")
	return c
}

func labGet(open opener) *cobra.Command {
	var output *string
	c := &cobra.Command{
		Use:   "get KIND [[NS/]NAME]",
		Short: "Show objects as an API server does",
		Example: `  fairlead lab get pods
  fairlead lab get pod default/a -o json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			if err := checkOutput(*output); err != nil {
				return err
			}
			namespace, name := "", ""
			if len(args) == 2 {
				var two bool
				if namespace, name, two = strings.Cut(args[1], "/"); !two {
					namespace, name = "", args[1]
				}
			}
			ctx, cancel := interruptible(time.Minute)
			defer cancel()
			found, err := l.Get(ctx, args[0], namespace, name)
			if _, unknown := errors.AsType[lab.UnknownKindError](err); unknown {
				return misuse{err}
			}
			if err != nil {
				return err
			}
			return printObjects(c.OutOrStdout(), found, *output)
		},
	}
	output = outputFlag(c)
	return c
}

func printObjects(to io.Writer, found json.RawMessage, output string) error {
	if output == "json" {
		var b bytes.Buffer
		if err := json.Indent(&b, found, "", "  "); err != nil {
			return err
		}
		_, err := fmt.Fprintln(to, b.String())
		return err
	}
	var list struct {
		Kind  string
		Items []shown
	}
	if err := json.Unmarshal(found, &list); err != nil {
		return err
	}
	if list.Kind != "List" {
		list.Items = make([]shown, 1)
		if err := json.Unmarshal(found, &list.Items[0]); err != nil {
			return err
		}
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(to, "none")
		return err
	}
	if list.Items[0].Kind == "Event" {
		events := newEvents()
		if err := json.Unmarshal(found, events.Into()); err != nil {
			return err
		}
		return printRows(to, events.Rows())
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAMESPACE\tNAME\tSTATUS\tADDRESS")
	for _, o := range list.Items {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", view.Dash(o.Metadata.Namespace), o.Metadata.Name, view.Dash(o.state()), view.Dash(o.address()))
	}
	return w.Flush()
}

// shown is what the table has of an object, whatever its kind.
type shown struct {
	Kind     string
	Metadata struct{ Namespace, Name string }
	Status   struct {
		Phase, PodIP string
		Conditions   []struct{ Type, Status string }
		Addresses    []struct{ Type, Address string }
	}
}

// state is the phase of what has one, and of the others whether it is ready or
// accepted.
func (s shown) state() string {
	if s.Status.Phase != "" {
		return s.Status.Phase
	}
	for _, c := range s.Status.Conditions {
		switch {
		case c.Type != "Ready" && c.Type != v1alpha1.ConditionAccepted:
		case c.Status == "True":
			return c.Type
		default:
			return "Not" + c.Type
		}
	}
	return ""
}

func (s shown) address() string {
	for _, a := range s.Status.Addresses {
		if a.Type == "InternalIP" {
			return a.Address
		}
	}
	return s.Status.PodIP
}

func labStatus(open opener) *cobra.Command {
	var output *string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what runs in the lab",
		Example: `  fairlead lab status
  fairlead lab status -o json`,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			if err := checkOutput(*output); err != nil {
				return err
			}
			ctx, cancel := interruptible(time.Minute)
			defer cancel()
			status, err := l.Status(ctx)
			if err != nil {
				return err
			}
			if *output == "json" {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(status)
			}
			return printStatus(c.OutOrStdout(), status)
		},
	}
	output = outputFlag(c)
	return c
}

func printStatus(to io.Writer, s lab.Status) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tADDRESSES\tSTATE")
	for _, n := range s.Nodes {
		state := fmt.Sprintf("ready, revision %d applied", n.Agent.Applied)
		if !n.Agent.Ready {
			state = "not ready: " + n.Agent.Reason
		}
		if n.Agent.Problems > 0 {
			state += fmt.Sprintf(", %d problems", n.Agent.Problems)
		}
		fmt.Fprintf(w, "node/%s\t%s\t%s\n", n.Name, strings.Join(n.Addresses, " "), state)
	}
	for _, h := range s.Hosts {
		fmt.Fprintf(w, "host/%s\t%s\tup\n", h.Name, strings.Join(h.Addresses, " "))
	}
	for _, f := range s.Firewalls {
		fmt.Fprintf(w, "firewall/%s\t-\t%d accepted, %d dropped\n", f.Name, f.Accepted, f.Dropped)
	}
	for _, p := range s.Pods {
		state := p.Phase + " on " + p.Node
		if !p.Ready {
			state += ", not ready"
		}
		fmt.Fprintf(w, "pod/%s/%s\t%s\t%s\n", p.Namespace, p.Name, view.Dash(strings.Join(p.PodIPs, " ")), state)
	}
	return w.Flush()
}

func labLogs(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "logs node/NAME | host/NAME | pod/NS/NAME",
		Short: "Show what an agent, a host's server or a pod has written",
		Example: `  fairlead lab logs node/n1
  fairlead lab logs pod/default/a`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			t, err := lab.ParseTarget(args[0])
			if err != nil {
				return misuse{err}
			}
			err = l.Logs(t, c.OutOrStdout())
			if os.IsNotExist(err) {
				return fmt.Errorf("there is no log of %s in lab %s", t, l.Name)
			}
			return err
		},
	}
}
