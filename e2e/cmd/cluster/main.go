// Command cluster makes and removes real Kubernetes clusters on this machine: see
// the package fairlead.dev/fairlead/e2e/cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "cluster", Short: "A real Kubernetes cluster on this machine",
		SilenceUsage: true, SilenceErrors: true, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	name := root.PersistentFlags().String("name", "e2e", "the cluster's `NAME`: clusters of different names do not meet")
	root.AddCommand(upCommand(name), downCommand(name), statusCommand(name), kubeconfigCommand(name), execCommand(name),
		rebootCommand(name), componentCommand(name), importCommand(name), installCommand(name), checkCommand(name), buildCommand())
	return root
}

// explain tells what to do with a cluster.
func explain(c *cluster.Cluster) {
	fmt.Printf("export KUBECONFIG=%s PATH=%s:$PATH\n", c.Kubeconfig(), c.Programs())
	fmt.Fprint(os.Stderr, `
  Paste the line above; then, for example:

  kubectl get nodes,pods -A -o wide
  go run -C e2e ./cmd/cluster exec node1 -- ip route
  go run -C e2e ./cmd/cluster check
  go run -C e2e ./cmd/cluster reboot node1
  go run -C e2e ./cmd/cluster component stop kube-apiserver
  go run -C e2e ./cmd/cluster down
`)
}
