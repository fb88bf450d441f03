package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/e2e/build"
	"fairlead.dev/fairlead/e2e/cluster"
)

func upCommand(name *string) *cobra.Command {
	c := cluster.Config{Log: os.Stderr}
	cmd := &cobra.Command{
		Use: "up", Short: "Make a cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Name = *name
			up, err := cluster.Up(cmd.Context(), c)
			if err != nil {
				return fmt.Errorf("%w\n(what is left of it is for looking at, until: cluster down)", err)
			}
			explain(up)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Nodes, "nodes", 3, "nodes; 0: only a control plane")
	f.StringVar((*string)(&c.Network), "network", "", "the network of pods: fairlead, this tree's; bridge, as a reference; by default none, and nodes wait for one")
	f.StringVar((*string)(&c.Proxy), "proxy", string(cluster.NFTables), "kube-proxy's mode: nftables, iptables or none")
	f.StringVar((*string)(&c.Containerd), "containerd", string(cluster.Debian), "the container runtime: debian or 2.2")
	f.StringVar((*string)(&c.Families), "families", string(cluster.DualStack), "address families: dual or ipv4")
	f.BoolVar(&c.Replace, "replace", false, "whether a cluster of the name that is up goes first")
	f.StringSliceVar(&c.Images, "image", nil, "`FILE`s of image archives for every node")
	return cmd
}

func downCommand(name *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "down", Short: "Remove the cluster and all that is left of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			names := []string{*name}
			if all {
				var err error
				if names, err = cluster.List(); err != nil {
					return err
				}
			}
			for _, n := range names {
				if err := cluster.Down(cmd.Context(), n); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every cluster of this machine")
	return cmd
}

// onCluster is a command on a cluster that is up.
func onCluster(name *string, cmd *cobra.Command, run func(*cobra.Command, *cluster.Cluster, []string) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := cluster.Open(*name)
		if err != nil {
			return err
		}
		return run(cmd, c, args)
	}
	return cmd
}

func statusCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{Use: "status", Short: "What runs, with process ids", Args: cobra.NoArgs},
		func(_ *cobra.Command, c *cluster.Cluster, _ []string) error {
			for _, s := range c.Status() {
				fmt.Printf("%-10s %-24s %s\n", s.Where, s.Component, s.State())
			}
			explain(c)
			return nil
		})
}

func kubeconfigCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{Use: "kubeconfig", Short: "Print the file to reach the cluster with", Args: cobra.NoArgs},
		func(_ *cobra.Command, c *cluster.Cluster, _ []string) error {
			fmt.Println(c.Kubeconfig())
			return nil
		})
}

func execCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{Use: "exec NODE -- COMMAND...", Short: "Run a command on a node", Args: cobra.MinimumNArgs(2)},
		func(cmd *cobra.Command, c *cluster.Cluster, args []string) error {
			n, err := node(c, args[0])
			if err != nil {
				return err
			}
			run := n.Command(cmd.Context(), args[1:]...)
			run.Stdin, run.Stdout, run.Stderr = os.Stdin, os.Stdout, os.Stderr
			return run.Run()
		})
}

func rebootCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{Use: "reboot NODE...", Short: "Switch nodes off and on again", Args: cobra.MinimumNArgs(1)},
		func(cmd *cobra.Command, c *cluster.Cluster, args []string) error {
			for _, a := range args {
				n, err := node(c, a)
				if err != nil {
					return err
				}
				if err := n.Reboot(cmd.Context()); err != nil {
					return err
				}
			}
			return nil
		})
}

func componentCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{
		Use:   "component stop|start NAME [NODE]",
		Short: "Stop or start etcd, kube-apiserver, kube-controller-manager, kube-scheduler; on a node containerd, kubelet, kube-proxy",
		Args:  cobra.RangeArgs(2, 3),
	}, func(cmd *cobra.Command, c *cluster.Cluster, args []string) error {
		start, stop := c.Start, c.Stop
		if len(args) == 3 {
			n, err := node(c, args[2])
			if err != nil {
				return err
			}
			start, stop = n.Start, n.Stop
		}
		switch args[0] {
		case "start":
			return start(cmd.Context(), args[1])
		case "stop":
			return stop(cmd.Context(), args[1])
		}
		return fmt.Errorf("a component can be stopped and started, not %q", args[0])
	})
}

func importCommand(name *string) *cobra.Command {
	return onCluster(name, &cobra.Command{Use: "import FILE...", Short: "Give image archives to every node", Args: cobra.MinimumNArgs(1)},
		func(cmd *cobra.Command, c *cluster.Cluster, args []string) error {
			for _, file := range args {
				if err := c.ImportImage(cmd.Context(), file); err != nil {
					return err
				}
			}
			return nil
		})
}

func buildCommand() *cobra.Command {
	var runtime string
	cmd := &cobra.Command{
		Use: "build", Short: "Fill the cache with all that clusters and suites are made of; prints where it is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := build.New(os.Stderr)
			if err != nil {
				return err
			}
			for _, p := range build.All {
				if p.Name == build.Containerd.Name && runtime == string(cluster.Debian) {
					continue
				}
				dir, err := b.Program(cmd.Context(), p)
				if err != nil {
					return err
				}
				fmt.Println(dir)
			}
			archive, err := b.Images(cmd.Context())
			fmt.Println(archive)
			return err
		},
	}
	cmd.Flags().StringVar(&runtime, "containerd", string(cluster.ContainerdV2), "the container runtime of the clusters: debian's is not compiled")
	return cmd
}

func node(c *cluster.Cluster, name string) (*cluster.Node, error) {
	if n := c.Node(name); n != nil {
		return n, nil
	}
	var names []string
	for _, n := range c.Nodes() {
		names = append(names, n.Name())
	}
	return nil, fmt.Errorf("there is no node %s, but %s", name, strings.Join(names, ", "))
}
