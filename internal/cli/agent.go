package cli

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/quote"
)

func agentCommand() *cobra.Command {
	var c agent.Config
	var from objectsFlags
	var level string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Reconcile this node's network with the cluster's objects",
		Long: `Reconcile this node's network with the cluster's objects.

The agent runs on every node, in the node's network namespace, with CAP_NET_ADMIN,
CAP_NET_RAW and CAP_SYS_ADMIN (to enter pods' network namespaces). When it stops,
the network stays as it is.

Objects come from an API server if --kubeconfig or --api-server names one, or in a pod
with a service account. Otherwise they come from a directory of manifests.`,
		Example: `  fairlead agent --node "$(hostname)" --objects /etc/fairlead/objects
  fairlead agent --node "$(hostname)" --kubeconfig /etc/fairlead/kubeconfig
  fairlead agent --node edge1 --objects ./manifests --metrics-address ""`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Node == "" {
				return misuse{fmt.Errorf("--node is missing: the name of this machine's Node object")}
			}
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return misuse{fmt.Errorf("--log-level %q: use debug, info, warn or error", level)}
			}
			c.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: l, ReplaceAttr: quote.LogAttr})).With("node", c.Node)
			c.Version = version()
			if err := from.choose(cmd, &c); err != nil {
				return err
			}
			a, err := agent.New(c)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return a.Run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Node, "node", os.Getenv("NODE_NAME"), "name of this machine's Node object ($NODE_NAME)")
	from.add(f)
	from.addAgents(f)
	f.StringVar(&c.StateDir, "state-dir", cni.DefaultStateDir, "directory of the IPAM state, recorded settings and the cache of objects")
	f.StringVar(&c.Socket, "socket", cni.DefaultSocket, "unix socket for the CNI plugin and the command line")
	f.StringVar(&c.MetricsAddress, "metrics-address", "127.0.0.1:9468", "address to serve metrics and health on; empty: none")
	f.StringVar(&c.CNIConfDir, "cni-conf-dir", "", "directory of the container runtime's network configurations, such as /etc/cni/net.d: "+cni.ConfigFile+" is written there; empty: write none")
	f.StringVar(&c.CNIBinDir, "cni-bin-dir", "", "directory of the container runtime's plugins, such as /opt/cni/bin: the plugin is copied there; empty: do not copy it")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}
