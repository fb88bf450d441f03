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
would repair it. The exit code is 0 if there is no difference, 1 otherwise.`,
		Example: "  fairlead diff",
	}
	socket, output := socketFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		var d agent.Diff
		if err := ask(cmd.Context(), *socket, "/v1/diff", &d); err != nil {
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
