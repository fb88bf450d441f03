package cli

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/controller"
	"fairlead.dev/fairlead/internal/quote"
)

func controllerCommand() *cobra.Command {
	var c controller.Config
	var from objectsFlags
	var level string
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Write cluster-wide status: conditions of objects that all nodes read",
		Long: `Write cluster-wide status: conditions of objects that all nodes read.

Every agent reports what is wrong with an AgentConfig. The controller collects that and
writes it as the condition Accepted of the object. Several may run: one leads (leader
election by a Lease, or by the lock of a directory), and the others wait. Nodes and pods
do not need it: without a controller there is a network, and no conditions.

Objects come from an API server if --kubeconfig or --api-server names one, or in a pod
with a service account. Otherwise they come from a directory of manifests, and conditions
are written beside the agents' reports.`,
		Example: `  fairlead controller --kubeconfig /etc/fairlead/kubeconfig
  fairlead controller --objects /etc/fairlead/objects --reports /var/lib/fairlead/reports`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return misuse{fmt.Errorf("--log-level %q: use debug, info, warn or error", level)}
			}
			c.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: l, ReplaceAttr: quote.LogAttr}))
			if err := from.chooseFor(cmd, &c); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return controller.Run(ctx, c)
		},
	}
	f := cmd.Flags()
	from.add(f)
	f.StringVar(&c.Namespace, "namespace", ownNamespace(), "namespace of the Lease for leader election ($POD_NAMESPACE, or that of the pod's service account)")
	f.StringVar(&c.MetricsAddress, "metrics-address", "127.0.0.1:9469", "address to serve metrics and health on; empty: none")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// chooseFor gives a controller its objects.
func (o *objectsFlags) chooseFor(cmd *cobra.Command, c *controller.Config) error {
	server, err := o.asksServer(cmd)
	if err != nil {
		return err
	}
	if server {
		if c.Identity = os.Getenv("POD_NAME"); c.Identity == "" {
			if c.Identity, err = os.Hostname(); err != nil {
				return err
			}
		}
		if c.REST, err = o.connection(controller.Component).Config(); err != nil {
			return nowhere(err)
		}
		return nil
	}
	if err := o.directory(); err != nil {
		return err
	}
	if o.reports == "" {
		return misuse{errors.New("--reports is missing: the directory in which the agents write their reports")}
	}
	c.Objects, c.Reports = o.objects, o.reports
	return os.MkdirAll(o.reports, 0o755)
}

// ownNamespace is the namespace of the pod that this process is in.
func ownNamespace() string {
	content, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		content = nil
	}
	return cmp.Or(os.Getenv("POD_NAMESPACE"), strings.TrimSpace(string(content)), "fairlead-system")
}
