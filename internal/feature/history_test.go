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
	made   int64    // when the last Node was
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
	switch h.random.IntN(15) {
	case 12:
		h.in.Underlay = h.underlay()
		h.in.Metrics = pick(h, netip.AddrPort{}, netip.MustParseAddrPort("127.0.0.1:61001"), netip.MustParseAddrPort("0.0.0.0:8081"))
	case 14:
		o.Egresses, o.Namespaces = h.egresses(o.Egresses), h.namespaces(o.Namespaces)
	case 13:
		h.in.TCP = h.tcp()
	case 8, 9:
		o.Pods = world.SortedPods(h.pods(o.Pods.Slice())...)
	case 10:
		o.Services = h.services(o.Services)
	case 11:
		h.in.Observed = h.observed()
	case 0, 1:
		o.Nodes = h.nodes(o.Nodes)
	case 2, 6:
		o.Configs = h.configs()
	case 7:
		o.Reports = h.reports()
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
// pod CIDR, or makes no sense. Where the node itself was removed it comes back.
func (h *history) nodes(now []*corev1.Node) []*corev1.Node {
	i := h.random.IntN(8) + 1
	if !slices.ContainsFunc(now, func(n *corev1.Node) bool { return n.Name == "n1" }) {
		i = 1
	}
	name := fmt.Sprintf("n%d", i)
	made := metav1.Time{}
	if i := slices.IndexFunc(now, func(n *corev1.Node) bool { return n.Name == name }); i >= 0 {
		made = now[i].CreationTimestamp
	} else if h.random.IntN(4) > 0 {
		h.made++
		made = metav1.Unix(h.made, 0)
	}
	out := slices.DeleteFunc(slices.Clone(now), func(n *corev1.Node) bool { return n.Name == name })
	if len(out) < len(now) && h.random.IntN(4) == 0 {
		return out
	}
	cidr := fmt.Sprintf("10.244.%d.0/24", i)
	switch h.random.IntN(10) {
	case 0:
		cidr = "10.244.2.0/24"
	case 1:
		cidr = "nowhere"
	case 2:
		cidr = []string{"10.244.0.0/16", "10.9.0.0/16", "192.168.0.0/16"}[h.random.IntN(3)]
	}
	address := fmt.Sprintf("192.168.%d.%d", []int{100, 100, 101}[h.random.IntN(3)], h.random.IntN(2)*100+i)
	switch h.random.IntN(8) {
	case 0:
		address = fmt.Sprintf("fd00:100::%d", i)
	case 1:
		address = "192.168.100.2"
	}
	if h.oneIn(20) {
		address = "203.0.113.1"
	}
	n := node(name, address, cidr, fmt.Sprintf("fd00:%d::/64", i))
	n.CreationTimestamp = made
	for _, more := range []string{fmt.Sprintf("fd00:100::%d", i), fmt.Sprintf("10.9.0.%d", i)} {
		if h.random.IntN(2) == 0 {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: more})
		}
	}
	if h.oneIn(4) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: fmt.Sprintf("203.0.113.%d", i)})
	}
	return append(out, n)
}

// reports are what some agents say of their nodes, this one's among them.
func (h *history) reports() []*v1alpha1.FairleadNode {
	var out []*v1alpha1.FairleadNode
	for i := range 8 {
		r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i+1)}}
		r.Status.OverlayAddresses = [][]string{nil, {fmt.Sprintf("10.9.0.%d", i+1)}, {fmt.Sprintf("fd00:100::%d", i+1), "192.168.100.9"}, {"nowhere"}, {"192.168.100.2"}}[h.random.IntN(5)]
		if h.random.IntN(2) == 0 {
			r.Status.Overlay = &v1alpha1.OverlayInForce{Mode: []string{"vxlan", "direct", "hybrid", "none", "?"}[h.random.IntN(5)], Port: 4789 + h.random.IntN(2), VNI: 1 + h.random.IntN(2)}
		}
		if h.random.IntN(2) == 0 {
			out = append(out, r)
		}
	}
	return out
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
		block := []int{0, 64, 512, 9000, 20000, 100_000}[h.random.IntN(6)]
		c.Spec.NodeSNATRandomizePorts, c.Spec.NodeSNATPortRange, c.Spec.NodeSNATPortBlock = &randomize, &ports, &block
		if h.oneIn(2) {
			forEgress, itsPorts := h.oneIn(2), []string{"auto", "kernel", "30000-39999", "0-9"}[h.random.IntN(4)]
			c.Spec.EgressSNATRandomizePorts, c.Spec.EgressSNATPortRange = &forEgress, &itsPorts
		}
		if h.random.IntN(3) == 0 {
			c.Spec.NonMasqueradeCIDRs = []string{"203.0.113.0/24", "10.0.0.0/8", "fd00::/8", "here"}[h.random.IntN(4):]
		}
		offload := h.random.IntN(2) == 0
		c.Spec.DisableTXChecksumOffload = &offload
		if h.random.IntN(4) == 0 {
			c.Spec.ClusterCIDRs = [][]string{{"10.244.0.0/16"}, {"10.244.0.0/16", "fd00::/16", "192.168.100.0/24"}, {"here"}, {}}[h.random.IntN(4)]
		}
		accept := h.random.IntN(2) == 0
		c.Spec.AcceptForwarding = &accept
		h.tcpConfig(&c.Spec)
		if h.oneIn(3) {
			exclusive := h.oneIn(2)
			c.Spec.CNI = &v1alpha1.CNI{Exclusive: &exclusive}
		}
		if h.random.IntN(2) == 0 {
			c.Spec.Overlay = h.overlay()
		}
		if h.random.IntN(3) == 0 {
			c.Spec.NodePortLocal = h.nodePortLocal()
		}
		if h.random.IntN(6) == 0 {
			c.Spec.Features = map[string]bool{[]string{"overlay", "pod", "snat", "nodeportlocal", "dns", "guard", "hostport", "tcp", "forward", "uplink"}[h.random.IntN(10)]: h.random.IntN(2) == 0}
		}
		out = append(out, c)
	}
	return out
}

func (h *history) overlay() *v1alpha1.Overlay {
	o := &v1alpha1.Overlay{}
	vni, mtu, port := h.random.IntN(3), []int{0, 1400, 9000}[h.random.IntN(3)], 4789+h.random.IntN(2)
	mode := []string{"vxlan", "direct", "hybrid", "none", "carrier pigeon"}[h.random.IntN(5)]
	choice := []string{"", "eth1", "eth*", "10.9.0.0/16", "fd00:100::/64", "bond0", "[", "10.9.0.0/99"}[h.random.IntN(8)]
	for _, set := range []func(){
		func() { o.VNI = &vni }, func() { o.MTU = &mtu }, func() { o.Mode = &mode }, func() { o.Interface = &choice },
		func() { o.Port = &port },
	} {
		if h.random.IntN(2) == 0 {
			set()
		}
	}
	return o
}

func (h *history) attachments() *world.Attachments {
	out := &world.Attachments{}
	for i, path := range h.netns {
		if h.random.IntN(2) == 0 {
			continue
		}
		a := &world.Attachment{
			Namespace: "default", Pod: fmt.Sprint(i), ContainerID: fmt.Sprint(i), Interface: "eth0", Netns: path,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 1, byte(i + 2)})}, Chained: h.random.IntN(5) == 0,
		}
		if h.random.IntN(3) == 0 {
			a.HostPorts = []world.HostPort{{Port: uint16(8080 + i), Protocol: []byte{6, 17}[h.random.IntN(2)], PodPort: uint16(80 + h.random.IntN(2)),
				Address: []netip.Addr{{}, {}, netip.MustParseAddr("192.168.100.1"), netip.MustParseAddr("10.9.0.1")}[h.random.IntN(4)]}}
		}
		if h.random.IntN(3) == 0 {
			a.Bandwidth = world.Bandwidth{IngressRate: 1e6, IngressBurst: 1e6, EgressRate: 1e7, EgressBurst: 1e6}
		}
		out.List = append(out.List, a)
	}
	return out
}

// tcp is what network namespaces have, and now and then refuse to tell.
func (h *history) tcp() *world.TCPSeen {
	some := func() world.TCP {
		return world.TCP{Timestamps: []string{"1", "1", "2", "0", ""}[h.random.IntN(5)], Reuse: []string{"2", "2", "1", "0", ""}[h.random.IntN(5)]}
	}
	out := &world.TCPSeen{Node: some()}
	for i := range h.netns {
		if h.random.IntN(4) > 0 {
			out.Pods = append(out.Pods, world.PodTCP{Attachment: fmt.Sprint(i) + "@eth0", TCP: some(), Refused: []string{"", "", "", "never"}[h.random.IntN(4)]})
		}
	}
	return out
}

// tcpConfig is settings of TCP, or none.
func (h *history) tcpConfig(to *v1alpha1.AgentConfigSpec) {
	pods, node := []string{"monotonic", "random", "keep", "?"}[h.random.IntN(4)], []string{"monotonic", "random", "keep", "?"}[h.random.IntN(4)]
	reuse := h.random.IntN(2) == 0
	if h.random.IntN(2) == 0 {
		to.PodTCPTimestamps, to.PodTCPReuse = &pods, &reuse
	}
	if h.random.IntN(2) == 0 {
		to.HostTCPTimestamps, to.HostTCPReuse = &node, &reuse
	}
}
