package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
)

func diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "Print how this node's kernel differs from the desired state",
		Long: `Print how this node's kernel differs from the desired state, as the commands that
would repair it. The exit code is 0 if there is no difference, 1 otherwise.

With --from it prints how the desired state in the file differs from the one that this
version of fairlead makes of the same node: what an upgrade would change. No kernel is looked at.`,
		Example: `  fairlead diff
  fairlead diff --from node.json`,
	}
	from, output := askedFlags(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		var d agent.Diff
		if err := from.ask(cmd, "/v1/diff", &d); err != nil {
			return err
		}
		if *output == "json" {
			if err := printJSON(cmd.OutOrStdout(), d); err != nil {
				return err
			}
		} else {
			for _, line := range d.Changes {
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
		}
		if len(d.Changes) > 0 {
			return exitCode(1)
		}
		return nil
	}
	return cmd
}
