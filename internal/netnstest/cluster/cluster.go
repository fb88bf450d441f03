// Package cluster makes nodes and pods out of network namespaces, for tests and
// benchmarks of whole packet paths.
//
// What a node's kernel holds is what the features render from Node and
// AgentConfig objects, put there by datapath.Apply: the agent's own line,
// without the agent. What the nodes' uplinks lead to is the caller's.
package cluster

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/kernel"
	"fairlead.dev/fairlead/internal/world"
)

// Uplink is the name of every node's way to the others, and of every pod's
// only interface.
const Uplink = "eth0"

// A Node is a host of the cluster, with its pods.
type Node struct {
	*netnstest.Host
	Number     int
	Addresses  []netip.Addr // of its uplink: IPv4, then IPv6
	Pods       []*Pod
	Observed   []world.Part // by helpers of features, as in its agent
	WithoutTCX bool         // its kernel is taken for one without tcx
	// Also adds objects besides Nodes and settings; nil: there are none.
	Also func(*source.Objects)

	t           netnstest.T
	attachments world.Attachments
	builder     *source.Builder
	renderer    *feature.Renderer
	held        datapath.State
	young       []string // links whose gates are to be settled
}

// A Pod is a host that hangs on a node's wire, once the node's state is applied.
// What else it asks of the network may be set before. Its addresses are IPv4, then
// IPv6.
type Pod struct {
	*netnstest.Host
	*world.Attachment
}

// NewNode makes node number n, from 1 to 99. Nodes are neighbours in
// 192.0.2.0/24 and 2001:db8:1::/64; their uplink is not wired yet.
func NewNode(t netnstest.T, n int) *Node {
	t.Helper()
	return &Node{
		Host: netnstest.New(t), Number: n, t: t,
		Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}),
			netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%d", n)),
		},
		builder:  source.NewBuilder(name(n), feature.Switches(all.Features)...),
		renderer: feature.NewRenderer(all.Features),
	}
}

func name(n int) string { return fmt.Sprintf("n%d", n) }

func podCIDRs(n int) []string {
	return []string{fmt.Sprintf("10.244.%d.0/24", n), fmt.Sprintf("fd00:10:244:%d::/64", n)}
}

// NewPod makes a pod of n. Its wire comes with the next Apply.
func (n *Node) NewPod() *Pod {
	n.t.Helper()
	i := len(n.Pods) + 2 // .1 is the node
	h := netnstest.New(n.t)
	p := &Pod{h, &world.Attachment{
		Namespace: "default", Pod: fmt.Sprintf("p%d", i), ContainerID: fmt.Sprintf("%s-p%03d", name(n.Number), i),
		Interface: Uplink, Netns: h.Path, Inode: netns.Inode(h.Path), Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{10, 244, byte(n.Number), byte(i)}),
			netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::%x", n.Number, i)),
		},
	}}
	n.Pods = append(n.Pods, p)
	n.attachments.List = append(n.attachments.List, p.Attachment)
	return p
}

// Wire connects the node's uplink, with its addresses, to a host's interface.
func (n *Node) Wire(h *netnstest.Host, link string) {
	n.t.Helper()
	netnstest.Wire(n.Host, Uplink, h, link)
	n.Address(Uplink, n.Addresses[0].String()+"/24", n.Addresses[1].String()+"/64")
}

// Join connects two nodes by their uplinks.
func Join(a, b *Node) {
	a.t.Helper()
	netnstest.Wire(a.Host, Uplink, b.Host, Uplink)
	for _, n := range []*Node{a, b} {
		n.Address(Uplink, n.Addresses[0].String()+"/24", n.Addresses[1].String()+"/64")
	}
}

// Apply makes n's kernel hold what the features render with the given settings,
// and returns the world they rendered.
func (n *Node) Apply(spec v1alpha1.AgentConfigSpec, peers ...*Node) *world.World {
	n.t.Helper()
	var w *world.World
	n.Do(func() error {
		attachments := n.attachments
		capabilities := kernel.Probe()
		if n.WithoutTCX {
			capabilities.TCX = world.Capability{Reason: "taken away"}
			capabilities.TCXEgress = capabilities.TCX
		}
		observer := &kernel.Observer{Capabilities: capabilities}
		observed, err := observer.Observe(&attachments)
		if err != nil {
			return err
		}
		seen, err := observer.ObserveTCP(observed, &attachments)
		if err != nil {
			return err
		}
		objects := &source.Objects{Configs: []*v1alpha1.AgentConfig{
			{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultConfig}, Spec: spec},
		}}
		for _, m := range append([]*Node{n}, peers...) {
			objects.Nodes = append(objects.Nodes, m.object())
		}
		if n.Also != nil {
			n.Also(objects)
		}
		in := source.Inputs{Objects: objects, Attachments: &attachments, Kernel: observed, TCP: seen, Observed: n.Observed}
		w, _ = n.builder.Build(in)
		if in.Underlay, err = observer.Underlay(w); err != nil {
			return err
		}
		var problems []world.Problem
		w, problems = n.builder.Build(in)
		rendered := n.renderer.Render(w)
		if problems = append(problems, rendered.Problems...); len(problems) > 0 {
			return fmt.Errorf("unexpected problems: %v", problems)
		}
		changes := datapath.DiffStates(n.held, rendered.State)
		if err := datapath.Apply(changes); err != nil {
			return err
		}
		n.held, n.young = rendered.State, append(n.young, changes.Young()...)
		return nil
	})
	return w
}

// Settle takes the gates of new wires to where they stay, as an agent does when it has
// time.
func (n *Node) Settle() {
	n.t.Helper()
	n.Do(func() error {
		for _, link := range n.young {
			if _, err := datapath.Settle(link); err != nil {
				return err
			}
		}
		n.young = nil
		return nil
	})
}

// Repair makes n's kernel hold again what it was given.
func (n *Node) Repair() {
	n.t.Helper()
	n.Do(func() error {
		have, err := datapath.Read(n.held)
		if err != nil {
			return err
		}
		return datapath.Apply(datapath.Diff(have, n.held))
	})
}

// Uninstall takes all that is Fairlead's from n's kernel.
func (n *Node) Uninstall() {
	n.t.Helper()
	n.Do(func() error {
		have, err := datapath.Read(nil)
		if err != nil {
			return err
		}
		n.held = nil
		return datapath.Apply(datapath.Diff(have, nil))
	})
}

// object is n as the cluster knows it.
func (n *Node) object() *corev1.Node {
	return Object(name(n.Number), podCIDRs(n.Number), n.Addresses...)
}

// Object is a Node of the cluster, with its InternalIPs.
func Object(name string, podCIDRs []string, addresses ...netip.Addr) *corev1.Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDRs: podCIDRs}}
	for _, a := range addresses {
		o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return o
}
