// Package cluster makes a real Kubernetes cluster on one machine: etcd, the
// control plane, and nodes with kubelet, containerd and kube-proxy, each node in
// namespaces of its own (network, mounts, processes, host name, cgroups), as far
// apart as machines are. Nodes come up without a network, and wait for one to be
// installed, as kubeadm leaves them.
//
//	c, err := cluster.Up(ctx, cluster.Config{Nodes: 3, Log: os.Stderr})
//	defer c.Down(ctx)
//	c.Kubectl(ctx, "apply", "-f", "network.yaml").Run()
//	c.Node("node1").Command(ctx, "ip", "route").Output()
//	c.Node("node1").Reboot(ctx)
//
// A cluster outlives the process that made it. What belongs to it is under its
// name, in /var/lib/fairlead-e2e/NAME, so that Down finds it after a crash too.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"

	"fairlead.dev/fairlead/e2e/build"
)

// A Network is what connects pods when the cluster is up.
type Network string

// The networks.
const (
	NoNetwork Network = ""         // none: nodes are NotReady until one is installed
	Bridge    Network = "bridge"   // the reference: Debian's plugins bridge, host-local and portmap, with static routes
	Fairlead  Network = "fairlead" // this tree's, from its chart
)

// A Proxy is kube-proxy's mode.
type Proxy string

// The modes; NoProxy runs no kube-proxy.
const (
	NFTables Proxy = "nftables"
	IPTables Proxy = "iptables"
	NoProxy  Proxy = "none"
)

// A Containerd is where the container runtime comes from.
type Containerd string

// The runtimes.
const (
	Debian       Containerd = "debian" // the machine's package, 1.6 in Debian 12
	ContainerdV2 Containerd = "2.2"    // compiled from the module in e2e/containerd
)

// Families are the address families of pods, services and nodes.
type Families string

// The families, the primary one first.
const (
	DualStack Families = "dual"
	IPv4      Families = "ipv4"
)

// A Config is what a cluster is like.
type Config struct {
	Name       string     // letters, digits and dashes; default "e2e"
	Nodes      int        // node1, node2, ...; 0: only a control plane
	Network    Network    // default none
	Proxy      Proxy      // default NFTables
	Containerd Containerd // default Debian
	Families   Families   // default DualStack
	Images     []string   // archives that every node imports, besides the tests' own
	Replace    bool       // whether a cluster of the name that runs is to go
	Log        io.Writer  `json:"-"` // progress; default nowhere
}

func (c *Config) complete() error {
	if c.Name == "" {
		c.Name = "e2e"
	}
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`).MatchString(c.Name) {
		return fmt.Errorf("a cluster cannot be called %q: letters, digits and dashes, at most 31", c.Name)
	}
	if c.Proxy == "" {
		c.Proxy = NFTables
	}
	if c.Containerd == "" {
		c.Containerd = Debian
	}
	if c.Families == "" {
		c.Families = DualStack
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	switch {
	case c.Nodes < 0 || c.Nodes > maxNodes:
		return fmt.Errorf("a cluster has 0 to %d nodes, not %d", maxNodes, c.Nodes)
	case !slices.Contains([]Network{NoNetwork, Bridge, Fairlead}, c.Network):
		return fmt.Errorf("there is no network %q", c.Network)
	case !slices.Contains([]Proxy{NFTables, IPTables, NoProxy}, c.Proxy):
		return fmt.Errorf("kube-proxy has no mode %q", c.Proxy)
	case !slices.Contains([]Containerd{Debian, ContainerdV2}, c.Containerd):
		return fmt.Errorf("there is no containerd %q", c.Containerd)
	case !slices.Contains([]Families{DualStack, IPv4}, c.Families):
		return fmt.Errorf("there are no address families %q", c.Families)
	}
	return nil
}

// A Cluster is one that is up.
type Cluster struct {
	config   Config
	mu       sync.Mutex // guards state while nodes start at once
	state    state
	programs programs
	release  build.Release // of Fairlead, when that is the network
	begin    time.Time     // of what is being reported on
}

// programs are the directories of what was built, and the archive of images.
type programs struct{ Kubernetes, Node, Containerd, Images, Agnhost string }

// Up builds what is missing and makes the cluster, after removing what is left
// of one of the same name; one that runs is an error, unless Replace is set. It returns when the API server is ready and the nodes
// are registered; with a network, when they are Ready and names are resolved. It
// needs root.
func Up(ctx context.Context, config Config) (*Cluster, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	if os.Getuid() != 0 {
		return nil, errors.New("a cluster is made of namespaces and cgroups, which needs root")
	}
	c := &Cluster{config: config, begin: time.Now()}
	if old, err := Open(config.Name); err == nil && old.runs() && !config.Replace {
		return nil, fmt.Errorf("a cluster %s is up already: take it down, or choose another name", config.Name)
	}
	if err := c.build(ctx); err != nil {
		return nil, err
	}
	if err := Down(ctx, config.Name); err != nil {
		return nil, fmt.Errorf("remove the cluster %s of before: %w", config.Name, err)
	}
	c.begin = time.Now()
	if err := c.up(ctx); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", config.Name, errors.Join(err, ctx.Err()))
	}
	return c, nil
}

func (c *Cluster) up(ctx context.Context) error {
	if err := c.claim(); err != nil {
		return err
	}
	nodes := make(chan error, 1) // which come up meanwhile
	go func() { nodes <- c.each(func(n *Node) error { return n.PowerOn(ctx) }) }()
	err := c.startControlPlane(ctx)
	if err == nil {
		c.say("control plane ready")
	}
	if err = errors.Join(err, <-nodes); err != nil || c.config.Nodes == 0 {
		return err
	}
	if err := c.registered(ctx); err != nil {
		return err
	}
	c.say("%d nodes registered", c.config.Nodes)
	if err := c.Apply(ctx, coreDNS); err != nil {
		return err
	}
	switch c.config.Network {
	case Bridge:
		err = c.bridge(ctx)
	case Fairlead:
		err = c.Install(ctx, c.release)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return c.WaitReady(ctx)
}

// build compiles and writes what the cluster is made of.
func (c *Cluster) build(ctx context.Context) error {
	b, err := build.New(c.config.Log)
	if err != nil {
		return err
	}
	wanted := map[*string]build.Program{&c.programs.Kubernetes: build.Kubernetes, &c.programs.Node: build.Node}
	if c.config.Containerd == ContainerdV2 {
		wanted[&c.programs.Containerd] = build.Containerd
	}
	for dir, p := range wanted {
		if *dir, err = b.Program(ctx, p); err != nil {
			return err
		}
	}
	if c.config.Nodes > 0 {
		if c.programs.Images, err = b.Images(ctx); err != nil {
			return err
		}
	}
	if c.programs.Agnhost, err = b.AgnhostImage(ctx); err != nil {
		return err
	}
	if c.config.Network == Fairlead {
		c.release, err = c.Release(ctx, "", "")
	}
	c.say("built")
	return err
}

// Agnhost is the image of upstream's test program, of the cluster's version.
func (c *Cluster) Agnhost() string { return c.programs.Agnhost }

// Name is the cluster's.
func (c *Cluster) Name() string { return c.config.Name }

// say reports progress.
func (c *Cluster) say(format string, args ...any) {
	fmt.Fprintf(c.config.Log, "%6.1fs %s\n", time.Since(c.begin).Seconds(), fmt.Sprintf(format, args...))
}
