package feature_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// A history is objects that change, one at a time, as a source would hold them:
// what does not change keeps its pointer.
type history struct {
	random *rand.Rand
	netns  []string // where pods are
	in     source.Inputs
}

func newHistory(seed uint64, netns []string) *history {
	h := &history{random: rand.New(rand.NewPCG(seed, seed)), netns: netns}
	h.in.Objects = &source.Objects{Nodes: []*corev1.Node{node("n1", "192.168.100.1", "10.244.1.0/24", "fd00:1::/64")}}
	h.in.Attachments = &world.Attachments{}
	h.in.Kernel = h.kernel()
	return h
}

// step changes one thing.
func (h *history) step() {
	o := *h.in.Objects
	switch h.random.IntN(6) {
	case 0, 1:
		o.Nodes = h.nodes(o.Nodes)
	case 2:
		o.Configs = h.configs()
	case 3:
		h.in.Attachments = h.attachments()
	case 4:
		h.in.Kernel = h.kernel()
	case 5: // nothing but the order
		o.Nodes = slices.Clone(o.Nodes)
		h.random.Shuffle(len(o.Nodes), func(i, j int) { o.Nodes[i], o.Nodes[j] = o.Nodes[j], o.Nodes[i] })
	}
	h.in.Objects = &o
}

func node(name, address string, cidrs ...string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDRs: cidrs},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

// nodes adds, changes or removes one node; now and then it claims another's
// pod CIDR, or makes no sense.
func (h *history) nodes(now []*corev1.Node) []*corev1.Node {
	i := h.random.IntN(8) + 1
	name := fmt.Sprintf("n%d", i)
	out := slices.DeleteFunc(slices.Clone(now), func(n *corev1.Node) bool { return n.Name == name })
	if h.random.IntN(4) == 0 {
		return out
	}
	cidr := fmt.Sprintf("10.244.%d.0/24", i)
	switch h.random.IntN(10) {
	case 0:
		cidr = "10.244.2.0/24"
	case 1:
		cidr = "nowhere"
	case 2:
		cidr = "10.244.0.0/16"
	}
	return append(out, node(name, fmt.Sprintf("192.168.100.%d", h.random.IntN(2)*100+i), cidr, fmt.Sprintf("fd00:%d::/64", i)))
}

func (h *history) configs() []*v1alpha1.AgentConfig {
	var out []*v1alpha1.AgentConfig
	for _, name := range []string{"default", "n1"} {
		if h.random.IntN(3) == 0 {
			continue
		}
		c := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: name}}
		randomize := h.random.IntN(2) == 0
		ports := []string{"auto", "kernel", "40000-49999", "50000-40000"}[h.random.IntN(4)]
		block := []int{0, 512, 9000, 20000}[h.random.IntN(4)]
		c.Spec.NodeSNATRandomizePorts, c.Spec.NodeSNATPortRange, c.Spec.NodeSNATPortBlock = &randomize, &ports, &block
		if h.random.IntN(3) == 0 {
			c.Spec.NonMasqueradeCIDRs = []string{"203.0.113.0/24", "10.0.0.0/8", "fd00::/8", "here"}[h.random.IntN(4):]
		}
		if h.random.IntN(4) == 0 {
			vni := h.random.IntN(3)
			c.Spec.Overlay = &v1alpha1.Overlay{VNI: &vni}
		}
		if h.random.IntN(6) == 0 {
			c.Spec.Features = map[string]bool{[]string{"overlay", "pod", "snat", "dns"}[h.random.IntN(4)]: h.random.IntN(2) == 0}
		}
		out = append(out, c)
	}
	return out
}

func (h *history) attachments() *world.Attachments {
	out := &world.Attachments{}
	for i, path := range h.netns {
		if h.random.IntN(2) == 0 {
			continue
		}
		out.List = append(out.List, &world.Attachment{
			Namespace: "default", Pod: fmt.Sprint(i), ContainerID: fmt.Sprint(i), Interface: "eth0", Netns: path,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 1, byte(i + 2)})},
		})
	}
	return out
}

func (h *history) kernel() *world.Kernel {
	k := source.PlainKernel(&world.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.168.100.1")}})
	k.LiveNetns = slices.Sorted(slices.Values(h.netns))
	if h.random.IntN(3) == 0 {
		k.Interfaces[0].MTU = 9000
	}
	if h.random.IntN(3) == 0 {
		k.LocalPorts.High = 50000
	}
	k.Capabilities.FullyRandomPorts.OK = h.random.IntN(4) > 0
	return k
}
