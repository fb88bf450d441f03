package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/e2e/check"
	"fairlead.dev/fairlead/e2e/cluster"
)

func checkCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{Use: "check", Short: "Whether pods reach each other, across nodes, by Services and by names", Args: cobra.NoArgs},
		func(cmd *cobra.Command, c *cluster.Cluster, _ []string) error {
			answers, err := check.Connectivity(cmd.Context(), c)
			fmt.Fprintf(os.Stderr, "%d right answers\n", answers)
			return err
		})
}
