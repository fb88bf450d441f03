package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/enter"
	"fairlead.dev/fairlead/e2e/node"
)

// A Node is one of the cluster's.
type Node struct {
	c     *Cluster
	index int // from 1
	name  string
}

// Nodes are the cluster's nodes: node1, node2, ...
func (c *Cluster) Nodes() []*Node {
	var out []*Node
	for i := range c.config.Nodes {
		out = append(out, &Node{c: c, index: i + 1, name: fmt.Sprintf("node%d", i+1)})
	}
	return out
}

// Node is the node called name; nil where there is none.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes() {
		if n.name == name {
			return n
		}
	}
	return nil
}

// each calls f for every node, all at once.
func (c *Cluster) each(f func(*Node) error) error {
	errs := make(chan error, c.config.Nodes)
	for _, n := range c.Nodes() {
		go func() { errs <- f(n) }()
	}
	var err error
	for range c.Nodes() {
		err = errors.Join(err, <-errs)
	}
	return err
}

// Name is the node's: node1, node2, ...
func (n *Node) Name() string { return n.name }

// Addresses are the node's own addresses, at most one for each family.
func (n *Node) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, p := range n.prefixes() {
		out = append(out, p.Addr())
	}
	return out
}

func (n *Node) prefixes() []netip.Prefix { return n.c.address(nodeHost + n.index) }

func (n *Node) addresses() []string {
	var out []string
	for _, a := range n.Addresses() {
		out = append(out, a.String())
	}
	return out
}

// dir is a path in the node's directory.
func (n *Node) dir(path ...string) string {
	return n.c.dir(append([]string{"nodes", n.name}, path...)...)
}

// Log is the file of a component's log: containerd, kubelet or kube-proxy.
func (n *Node) Log(component string) string { return n.dir("disk/var/log", component+".log") }

// Command is args, run on the node: in its namespaces, as root, with nothing in
// between.
func (n *Node) Command(ctx context.Context, args ...string) *enter.Cmd {
	return n.place().Command(ctx, args...)
}

// place is inside the node; nowhere, while it is off.
func (n *Node) place() enter.Place {
	pid, _ := n.first().running()
	if pid == 0 {
		pid = -1
	}
	return enter.Place{PID: pid, Cgroups: n.cgroups(), Env: []string{marker(n.c.config.Name), "KUBECONFIG=" + nodeKubeconfig}}
}

// cgroups are where the node's own processes are.
func (n *Node) cgroups() []string {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	dirs := slices.Clone(n.c.state.Cgroups[n.name])
	for i, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, node.Services)); err == nil {
			dirs[i] = filepath.Join(d, node.Services)
		}
	}
	return dirs
}

// first is the node's first process, as a component.
func (n *Node) first() component {
	return component{
		args: []string{filepath.Join(n.c.programs.Node, "node")}, log: n.dir("console.log"), record: n.c.dir("run", n.name),
		place: enter.Place{Netns: n.c.netns(n.name), Env: []string{marker(n.c.config.Name), node.Environment + "=" + n.dir("spec.json")}},
		attr:  &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC},
	}
}

// PowerOn switches the node on and starts components in their order, by default
// all: containerd, kubelet and kube-proxy. It returns when they are started.
func (n *Node) PowerOn(ctx context.Context, components ...string) error {
	if err := n.boot(); err != nil {
		return fmt.Errorf("switch %s on: %w", n.name, err)
	}
	if len(components) == 0 {
		components = n.components()
	}
	for _, name := range components {
		if err := n.Start(ctx, name); err != nil {
			return err
		}
	}
	return n.c.routes()
}

// PowerOff switches the node off, as by its power cord.
func (n *Node) PowerOff(ctx context.Context) error {
	first := n.first()
	ended, err := first.end(ctx, unix.SIGKILL)
	if err == nil && !ended {
		err = fmt.Errorf("its first process does not end within %s of being killed", stopPatience)
	}
	if err != nil {
		return fmt.Errorf("switch %s off: %w", n.name, err)
	}
	return errors.Join(n.c.unwire(n), enter.RemoveCgroups(n.groups()))
}

// Reboot switches the node off and on again. What was in memory is gone:
// processes, the network, /run, /tmp. What is on disk stays.
func (n *Node) Reboot(ctx context.Context) error {
	if err := n.PowerOff(ctx); err != nil {
		return err
	}
	return n.PowerOn(ctx)
}

func (n *Node) groups() []string {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	return n.c.state.Cgroups[n.name]
}

// bootPatience is how long a node's first process may take.
const bootPatience = time.Minute

// boot starts the first process and waits until the node is one.
func (n *Node) boot() error {
	if err := errors.Join(n.c.unwire(n), n.c.wire(n)); err != nil {
		return err
	}
	groups, err := enter.MakeCgroups("fairlead-e2e." + n.c.config.Name + "." + n.name)
	if err != nil {
		return err
	}
	if err := n.remember(groups); err != nil {
		return err
	}
	spec, err := n.spec()
	if err != nil {
		return err
	}
	b, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(spec.Memory, 0o755), os.WriteFile(n.dir("spec.json"), b, 0o600)); err != nil {
		return err
	}
	answer, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer answer.Close()
	first := n.first()
	first.place.Cgroups, first.files = groups, []*os.File{theirs}
	err = first.start()
	theirs.Close()
	if err != nil {
		return err
	}
	if err := answer.SetReadDeadline(time.Now().Add(bootPatience)); err != nil {
		return err
	}
	complaint, err := io.ReadAll(answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("its first process has not said within %s that it is up, see %s", bootPatience, first.log)
	}
	if err != nil || len(complaint) > 0 {
		return fmt.Errorf("%s %w", complaint, err)
	}
	if pid, _ := first.running(); pid == 0 {
		return fmt.Errorf("its first process ended, see %s", first.log)
	}
	return nil
}

func (n *Node) remember(groups []string) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.state.Cgroups[n.name] = groups
	return n.c.save()
}

// components are those of the node, in the order in which they start.
func (n *Node) components() []string {
	if n.c.config.Proxy == NoProxy {
		return []string{"containerd", "kubelet"}
	}
	return []string{"containerd", "kubelet", "kube-proxy"}
}

// component is the node's component called name.
func (n *Node) component(name string) (component, error) {
	k := component{place: n.place(), log: n.Log(name), record: n.c.dir("run", n.name+"."+name)}
	switch name {
	case "containerd":
		k.args = []string{"containerd", "--log-level=warn"}
	case "kubelet":
		k.args = []string{"kubelet", "--config=" + kubeletConfig, "--kubeconfig=" + nodeKubeconfig, "--node-ip=" + strings.Join(n.addresses(), ","),
			"--hostname-override=" + n.name, "--v=2"}
	case "kube-proxy":
		k.args = []string{"kube-proxy", "--config=" + proxyConfig}
	default:
		return k, fmt.Errorf("a node has no component %s, but %s", name, strings.Join(n.components(), ", "))
	}
	return k, nil
}

// Start starts a component of the node: containerd, kubelet or kube-proxy. It
// returns when containerd answers; kubelet and kube-proxy say on the API server
// what they have come to.
func (n *Node) Start(ctx context.Context, name string) error {
	k, err := n.component(name)
	if err != nil {
		return err
	}
	if name == "containerd" {
		if err := n.writeBaseSpec(ctx); err != nil {
			return fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if err := k.start(); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	if name != "containerd" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = Eventually(ctx, "containerd of "+n.name+", see "+k.log, func(ctx context.Context) error {
		if pid, _ := k.running(); pid == 0 {
			return errors.New("it has ended")
		}
		_, err := n.Command(ctx, "ctr", "version").Output()
		return err
	})
	if err != nil {
		return err
	}
	return n.importImages(ctx)
}

// Stop stops a component of the node, and returns when it has ended. Containers
// go on without containerd and kubelet.
func (n *Node) Stop(ctx context.Context, name string) error {
	k, err := n.component(name)
	if err != nil {
		return err
	}
	return k.stop(ctx)
}

// importImages imports what the disk does not have yet.
func (n *Node) importImages(ctx context.Context) error {
	for _, archive := range append([]string{n.c.programs.Images}, n.c.config.Images...) {
		if err := n.importOnce(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

// importOnce imports an archive unless that was done: what is imported is on disk.
func (n *Node) importOnce(ctx context.Context, archive string) error {
	done := n.dir("imported", strings.ReplaceAll(strings.Trim(archive, "/"), "/", "_"))
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := n.ImportImage(ctx, archive); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(done), 0o755), os.WriteFile(done, nil, 0o644))
}

// ImportImage makes the images of an archive known to the node's kubelet.
func (n *Node) ImportImage(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := n.Command(ctx, "ctr", "--namespace=k8s.io", "images", "import", "--snapshotter=overlayfs", "-")
	cmd.Stdin = f
	if _, err := cmd.Output(); err != nil {
		return fmt.Errorf("import %s on %s: %w", archive, n.name, err)
	}
	return nil
}

// ImportImage makes the images of an archive (docker-archive or OCI) known to
// every node's kubelet.
func (c *Cluster) ImportImage(ctx context.Context, archive string) error {
	return c.each(func(n *Node) error { return n.ImportImage(ctx, archive) })
}

// BootID names the time since the node was switched on; "" while it is off.
func (n *Node) BootID() string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root%s", n.place().PID, node.PinnedFile(bootIDFile)))
	return strings.TrimSpace(string(b))
}

// bootID is a new name for a time between two boots, as random(4) has it.
func bootID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
