package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/world"
)

func renderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Print a node's desired state: rules, links, routes",
		Long: `Print a node's desired state: rules, links, routes.

With -f it reads manifests, for any node, on any machine and without privileges, and
assumes an ordinary kernel. With --from it renders the node in a file of fairlead dump, with
all that its kernel showed and the agent had allocated. Without either it asks this node's agent.`,
		Example: `  fairlead render
  fairlead render -f ./manifests --node n1
  fairlead render --from node.json`,
	}
	from, output := askedFlags(cmd), outputFlag(cmd)
	path := cmd.Flags().StringP("filename", "f", "", "a file or directory of manifests")
	node := cmd.Flags().String("node", "", "the node to render for, with -f; may be left out if there is only one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		if *node != "" && *path == "" {
			return misuse{errors.New("--node needs -f: an agent knows its own node only")}
		}
		if from.file() && *path != "" {
			return misuse{errors.New("-f reads manifests, --from a file of fairlead dump: choose one")}
		}
		var r agent.Rendered
		var problems []world.Problem
		var err error
		if *path == "" {
			err = from.ask(cmd, "/v1/render", &r)
		} else {
			r, problems, err = renderFiles(*path, *node)
		}
		if err != nil {
			return err
		}
		if err := printRendered(cmd.OutOrStdout(), *output, r); err != nil {
			return err
		}
		for _, p := range problems {
			fmt.Fprintf(cmd.ErrOrStderr(), "problem: %s\n", p)
		}
		if len(problems) > 0 {
			return exitCode(2)
		}
		return nil
	}
	return cmd
}

func printRendered(w io.Writer, output string, r agent.Rendered) error {
	if output == "json" {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "%s\n%s", r.NFT, r.IP)
	return err
}

// noNode says why there is no node to render for.
func noNode(node string, names []string) error {
	switch {
	case len(names) == 0:
		return errors.New("the manifests have no Node")
	case node == "":
		return errors.New("say for which node with --node: the manifests have " + strings.Join(names, ", "))
	}
	return fmt.Errorf("--node %q: the manifests have no such Node; they have %s", node, strings.Join(names, ", "))
}

// renderFiles renders manifests for a node that is not this machine.
func renderFiles(path, node string) (agent.Rendered, []world.Problem, error) {
	if _, err := os.Stat(path); err != nil {
		return agent.Rendered{}, nil, misuse{fmt.Errorf("-f: %w", err)}
	}
	objects, err := dir.New(path).Read()
	if err != nil {
		return agent.Rendered{}, nil, err
	}
	if node == "" && len(objects.Nodes) == 1 {
		node = objects.Nodes[0].Name
	}
	builder := source.NewBuilder(node, feature.Switches(all.Features)...)
	in := source.Inputs{Objects: objects, Attachments: &world.Attachments{}, Kernel: &world.Kernel{}}
	w, problems := builder.Build(in)
	if w.Node == nil {
		var names []string
		for _, n := range objects.Nodes {
			names = append(names, n.Name)
		}
		return agent.Rendered{}, nil, misuse{errors.Join(said(problems), noNode(node, names))}
	}
	in.Kernel = source.PlainKernel(w.Node)
	w, problems = builder.Build(in)
	r := feature.NewRenderer(all.Features).Render(w)
	return agent.Rendered{NFT: r.State.NFT(), IP: r.State.IP(), Reports: r.Reports}, append(problems, r.Problems...), nil
}
