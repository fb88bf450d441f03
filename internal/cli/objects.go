package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/dir"
	watch "fairlead.dev/fairlead/internal/source/kube"
	"fairlead.dev/fairlead/internal/status"
)

// objectsFlags say where an agent's objects come from.
type objectsFlags struct {
	objects, reports   string // directories
	kubeconfig, server string
	config             string // file
}

func (o *objectsFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.objects, "objects", "/etc/fairlead/objects", "directory of manifests")
	f.StringVar(&o.reports, "reports", "", "directory of all nodes' status reports; empty: write and read none")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file for the API server; empty, in a pod: its service account")
	f.StringVar(&o.server, "api-server", "", "URL of the API server, overriding the one found there, such as one that does not need kube-proxy")
}

// addAgents adds those that only an agent has.
func (o *objectsFlags) addAgents(f *pflag.FlagSet) {
	f.StringVar(&o.config, "config", "", "file with the AgentConfig default that counts while the API server has none; empty: default settings")
}

// asksServer reports whether objects come from an API server.
func (o *objectsFlags) asksServer(cmd *cobra.Command) (bool, error) {
	asked := o.kubeconfig != "" || o.server != ""
	written := cmd.Flags().Changed("objects")
	if asked && (written || o.reports != "") {
		return false, misuse{errors.New("--kubeconfig and --api-server say that objects come from an API server, --objects and --reports from directories: choose one")}
	}
	return asked || kube.InPod() && !written, nil
}

// choose gives c its source of objects, and whom it tells how things are.
func (o *objectsFlags) choose(cmd *cobra.Command, c *agent.Config) error {
	server, err := o.asksServer(cmd)
	switch {
	case err != nil:
		return err
	case server:
		return o.fromServer(c)
	}
	return o.fromDirectory(c)
}

// connection says how to reach the API server as the named component.
func (o *objectsFlags) connection(component string) kube.Connection {
	return kube.Connection{Kubeconfig: o.kubeconfig, Server: o.server, UserAgent: component + "/" + version()}
}

// nowhere is the error of a connection that leads to no API server.
func nowhere(err error) error {
	return misuse{fmt.Errorf("%w: name a kubeconfig with --kubeconfig, or a directory of manifests with --objects", err)}
}

// directory says whether there is one of manifests.
func (o *objectsFlags) directory() error {
	if info, err := os.Stat(o.objects); err != nil || !info.IsDir() {
		return misuse{fmt.Errorf("--objects %q is no directory: make it, or name the one with the manifests, or an API server with --kubeconfig", o.objects)}
	}
	return nil
}

func (o *objectsFlags) fromServer(c *agent.Config) error {
	rest, err := o.connection(status.Component).Config()
	if err != nil {
		return nowhere(err)
	}
	var fallback *source.Objects
	if o.config != "" {
		if fallback, err = dir.New(o.config).Read(); err != nil {
			return misuse{fmt.Errorf("--config: %w", err)}
		}
	}
	c.Objects, err = watch.New(watch.Config{
		REST: rest, Node: c.Node, Needs: feature.Needs(all.Features),
		Memory: agent.ObjectsDir(c.StateDir), Fallback: fallback, Log: c.Log,
	})
	if err != nil {
		return err
	}
	writer, err := status.NewAPIServer(rest, c.Node, c.Log)
	if err != nil {
		return err
	}
	c.Status = writer
	return writer.Beat(rest, ownNamespace())
}

func (o *objectsFlags) fromDirectory(c *agent.Config) error {
	if err := o.directory(); err != nil {
		return err
	}
	from := dir.New(o.objects)
	if o.reports != "" {
		if err := os.MkdirAll(o.reports, 0o755); err != nil {
			return err
		}
		from.WithReports(o.reports)
		c.Status = status.NewFiles(filepath.Join(o.reports, c.Node+".json"), c.Log)
	}
	c.Objects = from
	return nil
}
