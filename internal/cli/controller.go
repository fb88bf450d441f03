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
		Short: "Write what needs one writer in the cluster: conditions of objects that all nodes read",
		Long: `Write what needs one writer in the cluster: conditions of objects that all nodes read.

Every agent tells in its report what is wrong with an AgentConfig. The controller puts
that together and writes it as the condition Accepted of the object. Several may run: one
leads, by a Lease or the lock of a directory, and the others wait. Nodes and pods do not
need it: without a controller there is a network, and no conditions.

Objects come from an API server where --kubeconfig or --api-server names one, and in a
pod with a service account; otherwise from a directory of manifests, and what is written
goes beside the agents' reports.`,
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
	f.StringVar(&c.Namespace, "namespace", ownNamespace(), "namespace of the Lease by which one controller leads ($POD_NAMESPACE, or that of the pod's service account)")
	f.StringVar(&c.MetricsAddress, "metrics-address", "127.0.0.1:9469", "address of metrics and health; empty: none")
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
