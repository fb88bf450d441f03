package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/e2e/cluster"
)

func installCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{Use: "install", Short: "Install Fairlead from its chart, or replace what is installed", Args: cobra.NoArgs}
	f := cmd.Flags()
	tree := f.String("tree", "", "the source `DIRECTORY` of what is installed; default: this one")
	version := f.String("version", "", "the image's tag; default: the chart's")
	values := f.StringSlice("set", nil, "`NAME=VALUE` of the chart")
	return onCluster(name, cmd, func(cmd *cobra.Command, c *cluster.Cluster, _ []string) error {
		c.LogTo(os.Stderr)
		r, err := c.Release(cmd.Context(), *tree, *version, *values...)
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "        manifests:", r.Manifests)
		if err := c.Install(cmd.Context(), r); err != nil {
			return err
		}
		return c.WaitReady(cmd.Context())
	})
}
