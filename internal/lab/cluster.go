package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/controller"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/lab/process"
	"fairlead.dev/fairlead/internal/lab/wire"
)

// A cluster is all that runs in a lab; the daemon's whole state.
type cluster struct {
	lab   Lab
	plan  *plan.Plan
	net   *wire.Net
	nodes []*node
	hosts []*service
	log   *slog.Logger
	ended <-chan struct{} // closed when the daemon is to end
	end   func()

	mu    sync.Mutex // guards what is below; taken before a pod's own
	store *store
	pods  map[ref]*pod
	event chan struct{} // closed, and replaced, when anything changed
}

func newCluster(l Lab, p *plan.Plan, log *slog.Logger) *cluster {
	ended, end := context.WithCancel(context.Background())
	c := &cluster{
		ended: ended.Done(), end: end,
		lab: l, plan: p, net: l.net(p), log: log,
		store: newStore(l.objects()), pods: map[ref]*pod{}, event: make(chan struct{}),
	}
	for i, n := range p.Nodes {
		c.nodes = append(c.nodes, &node{Node: n, lab: l, net: c.net, index: i, changed: c.changed})
	}
	return c
}

// changed wakes everybody who waits for something.
func (c *cluster) changed() {
	c.mu.Lock()
	close(c.event)
	c.event = make(chan struct{})
	c.mu.Unlock()
}

// until returns when done does, or false when ctx ends first.
func (c *cluster) until(ctx context.Context, done func() bool) bool {
	for {
		c.mu.Lock()
		event := c.event
		c.mu.Unlock()
		if done() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-event:
		}
	}
}

// bring makes the whole lab and says how far it has come.
func (c *cluster) bring(progress func(string)) error {
	for _, dir := range []string{c.lab.objects(), c.lab.reports(), c.lab.statuses(), c.lab.records(), c.lab.path("hosts"), c.lab.bin()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(c.lab.bin(), "fairlead"))
	}
	if err == nil {
		err = c.writeFirst()
	}
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("network: %s", c.counts()))
	if err := c.net.MakeRouter(); err != nil {
		return err
	}
	go c.control()
	c.startHosts()
	for _, n := range c.nodes {
		progress("node " + n.Name)
		if err := n.boot(); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) counts() string {
	var out []string
	for _, some := range []struct {
		n    int
		name string
	}{{len(c.plan.Nodes), "node"}, {len(c.plan.Hosts), "host"}, {len(c.plan.Firewalls), "firewall"}} {
		switch {
		case some.n == 1:
			out = append(out, "1 "+some.name)
		case some.n > 1:
			out = append(out, fmt.Sprintf("%d %ss", some.n, some.name))
		}
	}
	return strings.Join(out, ", ")
}

// control writes the conditions of objects, as a cluster's controller does.
func (c *cluster) control() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		<-c.ended
		stop()
	}()
	err := controller.Run(ctx, controller.Config{Objects: c.lab.objects(), Reports: c.lab.reports(), Log: c.log})
	if err != nil {
		c.log.Warn("no conditions are written any more", "err", err)
	}
}

// startHosts starts, on every host, a server that tests can talk to.
func (c *cluster) startHosts() {
	for _, h := range c.plan.Hosts {
		s := &service{again: always, changed: c.changed, command: process.Command{
			Args: []string{filepath.Join(c.lab.bin(), "fairlead"), "lab", "echo"}, Env: c.lab.environment(),
			Netns: c.net.Host(h.Name), Log: c.lab.hostLog(h.Name), Records: c.lab.records(),
		}}
		s.start()
		c.hosts = append(c.hosts, s)
	}
}

// writeFirst writes the objects that are there from the beginning.
func (c *cluster) writeFirst() error {
	first := []*object{{ref: ref{kind: "Namespace", name: "default"}, fields: map[string]any{
		"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "default"},
	}}}
	for _, n := range c.plan.Nodes {
		first = append(first, nodeObject(n))
	}
	var spec map[string]any
	b, err := json.Marshal(c.plan.Agent)
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	if err != nil {
		return err
	}
	if len(spec) > 0 {
		first = append(first, &object{ref: ref{kind: "AgentConfig", name: "default"}, fields: map[string]any{
			"apiVersion": v1alpha1.APIVersion, "kind": "AgentConfig", "metadata": map[string]any{"name": "default"}, "spec": spec,
		}})
	}
	for _, o := range first {
		c.store.admit(o)
	}
	return c.store.write(first, nil)
}

// nodeObject is the Node as a kubelet and a cloud would write it.
func nodeObject(n plan.Node) *object {
	addresses := []any{}
	for _, a := range n.Addresses {
		addresses = append(addresses, map[string]any{"type": "InternalIP", "address": a.Addr().String()})
	}
	addresses = append(addresses, map[string]any{"type": "Hostname", "address": n.Name})
	spec := map[string]any{}
	if len(n.PodCIDRs) > 0 {
		spec["podCIDR"], spec["podCIDRs"] = n.PodCIDRs[0].String(), texts(n.PodCIDRs)
	}
	return &object{ref: ref{kind: "Node", name: n.Name}, fields: map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": n.Name, "labels": map[string]any{
			"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux",
		}},
		"spec": spec, "status": map[string]any{"addresses": addresses},
	}}
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

func (c *cluster) node(name string) (*node, error) {
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no node %q: nodes are %s", name, strings.Join(c.nodeNames(), ", "))
	}
	return c.nodes[i], nil
}

func (c *cluster) nodeNames() []string {
	var out []string
	for _, n := range c.nodes {
		out = append(out, n.Name)
	}
	return out
}

// hostIPs are the addresses of the named node.
func (c *cluster) hostIPs(name string) []netip.Addr {
	n, err := c.node(name)
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range n.Addresses {
		out = append(out, a.Addr())
	}
	return out
}

// podList returns the pods that are known, sorted.
func (c *cluster) podList() []*pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*pod
	for _, p := range c.pods {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *pod) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// signalPods sends s to the containers on a node.
func (c *cluster) signalPods(n *node, s unix.Signal) {
	for _, p := range c.podList() {
		if _, state := p.now(); state.spec != nil && state.spec.Spec.NodeName == n.Name {
			for _, container := range state.services {
				if container != nil {
					container.signal(s)
				}
			}
		}
	}
}

// reboot takes the power from a node and gives it back. What it has on disk
// stays: the agent's state.
func (c *cluster) reboot(ctx context.Context, n *node) error {
	if err := n.endAgent(0, "the node is rebooting"); err != nil {
		return err
	}
	var pods []*pod
	for _, p := range c.podList() {
		if w, s := p.now(); w.spec != nil && w.spec.Spec.NodeName == n.Name || s.spec != nil && s.spec.Spec.NodeName == n.Name {
			pods = append(pods, p)
			p.powerOff()
		}
	}
	isDark := func(p *pod) bool { _, s := p.now(); return s.dark || s.gone }
	if !c.until(ctx, func() bool { return !slices.ContainsFunc(pods, func(p *pod) bool { return !isDark(p) }) }) {
		return fmt.Errorf("node %s: pods do not end: %w", n.Name, ctx.Err())
	}
	err := errors.Join(process.Signal(c.lab.nodeMarker(n.Name), unix.SIGKILL), c.net.RemoveNode(n.index))
	n.setFrozen(false)
	if err == nil {
		err = n.boot()
	}
	for _, p := range pods {
		p.powerOn()
	}
	return err
}

// schedule chooses the node of a pod that names none: the one with the fewest
// pods, then the first by name.
func (c *cluster) schedule(pods []*object) string {
	count := map[string]int{}
	for _, o := range pods {
		var p corev1.Pod
		o.into(&p)
		count[p.Spec.NodeName]++
	}
	names := slices.Sorted(slices.Values(c.nodeNames()))
	return slices.MinFunc(names, func(a, b string) int { return count[a] - count[b] })
}
