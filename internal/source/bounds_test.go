package source

import (
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// ofNode is what n1's kernel shows: a network between the nodes, and one beside it.
func ofNode() *world.Kernel {
	return &world.Kernel{Interfaces: []world.Interface{
		{Name: "docker0", MTU: 1500, Addresses: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}},
		{Name: "eth0", MTU: 1500, Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.100.1/24"), netip.MustParsePrefix("fd00:100::1/64")}},
		{Name: "lo", MTU: 65536, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
	}}
}

// besides builds the world of n1 with a peer n2 that is in order and one more, and
// returns what the last one has, and all that is said.
func besides(kernel *world.Kernel, peer *corev1.Node, configs ...*v1alpha1.AgentConfig) (*world.Node, []world.Problem) {
	w, problems := NewBuilder("n1").Build(Inputs{Kernel: kernel, Attachments: &world.Attachments{}, Objects: &Objects{Configs: configs, Nodes: []*corev1.Node{
		clusterNode("n1", "192.168.100.1", 0, "10.244.1.0/24"), clusterNode("n2", "192.168.100.2", 0, "10.244.2.0/24"), peer,
	}}})
	return w.Peers.Nodes[1], problems
}

// A pod CIDR of a peer that would lead what is for the node's own networks into the
// tunnel is none.
func TestAPeersPodCIDRLeavesTheNodesNetworksAlone(t *testing.T) {
	t.Parallel()
	for cidr, want := range map[string]string{
		"192.168.0.0/16":     "192.168.100.0/24, the network of eth0",
		"192.168.100.0/24":   "192.168.100.0/24, the network of eth0",
		"192.168.100.128/25": "192.168.100.0/24, the network of eth0",
		"172.16.0.0/12":      "172.17.0.0/16, the network of docker0",
		"fd00::/16":          "fd00:100::/64, the network of eth0",
		"192.168.101.0/24":   "",
	} {
		n, problems := besides(ofNode(), clusterNode("n3", "192.168.100.3", 0, cidr))
		if (want == "") != (len(n.PodCIDRs) == 1) || !strings.Contains(said(problems), want) || want == "" && len(problems) > 0 {
			t.Errorf("%s: it has %s, and said is\n%s", cidr, n.PodCIDRs, said(problems))
		}
	}
}

// What an agent reports as its node's end of the overlay is an address that a node can
// have there, and nobody else's.
func TestAReportedEndIsNobodyElses(t *testing.T) {
	t.Parallel()
	for address, why := range map[string]string{
		"0.0.0.0": "is no address of one node", "::": "is no address of one node", "224.0.0.1": "is no address of one node",
		"255.255.255.255": "is no address of one node", "127.0.0.1": "is no address of one node", "fe80::1": "is no address of one node",
		"192.168.100.1": "is an address of this node", "172.17.0.1": "is an address of this node", "192.168.100.2": "is an address of Node n2",
		"10.244.2.9": "is inside 10.244.2.0/24, the pod CIDR of Node n2", "192.168.100.3": "", "10.9.0.3": "",
	} {
		r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: "n3"}}
		r.Status.OverlayAddresses = []string{address}
		w, problems := NewBuilder("n1").Build(Inputs{Kernel: ofNode(), Attachments: &world.Attachments{}, Objects: &Objects{
			Reports: []*v1alpha1.FairleadNode{r},
			Nodes: []*corev1.Node{clusterNode("n1", "192.168.100.1", 0, "10.244.1.0/24"), clusterNode("n2", "192.168.100.2", 0, "10.244.2.0/24"),
				clusterNode("n3", "192.168.100.3", 0, "10.244.3.0/24")},
		}})
		wants := "FairleadNode n3: status.overlayAddresses[0]: " + address + " " + why
		switch ends := w.Peers.Nodes[1].Ends; {
		case why == "" && (len(ends) != 1 || len(problems) > 0):
			t.Errorf("%s is refused: %s", address, said(problems))
		case why != "" && (len(ends) > 0 || len(problems) != 1 || !strings.HasPrefix(said(problems), wants)):
			t.Errorf("%s: the ends are %s, and %q is said, not %q", address, ends, said(problems), wants)
		}
	}
}

// A Node has as many addresses and pod CIDRs as make sense; of thousands a few are
// read, and what is told of them is short.
func TestANodeWithThousandsOfAddresses(t *testing.T) {
	t.Parallel()
	peer := clusterNode("n3", "192.168.100.3", 0)
	for range 5000 {
		peer.Status.Addresses = append(peer.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: strings.Repeat("x", 1000)})
		peer.Spec.PodCIDRs = append(peer.Spec.PodCIDRs, strings.Repeat("y", 1000))
	}
	_, problems := besides(ofNode(), peer)
	if len(problems) == 0 || len(problems) > 40 || len(said(problems)) > 10_000 {
		t.Errorf("%d problems in %d bytes", len(problems), len(said(problems)))
	}
}

// What the node asks, and what it leaves by, is not led to pods; other parts of a
// network that pods have a part of are.
func TestAPeersPodCIDRLeavesAloneWhatTheNodeNeeds(t *testing.T) {
	t.Parallel()
	server := []netip.Addr{netip.MustParseAddr("10.96.0.1")}
	for _, tt := range []struct {
		name, cidr, want string
		change           func(*world.Kernel)
	}{
		{"a resolver", "198.51.100.0/24", "contains 198.51.100.53, a resolver of Node n1", func(k *world.Kernel) { k.Resolvers = []netip.Addr{netip.MustParseAddr("198.51.100.53")} }},
		{"the gateway", "203.0.113.0/24", "contains 203.0.113.1, the default gateway of Node n1", func(k *world.Kernel) { k.Exits = []world.Exit{{Gateway: netip.MustParseAddr("203.0.113.1")}} }},
		{"the API server", "10.96.0.0/12", "contains 10.96.0.1, the API server of Node n1", func(*world.Kernel) {}},
		{"an address without a network", "198.51.0.0/16", "contains 198.51.100.1, an address of Node n1", func(k *world.Kernel) {
			k.Interfaces = append(k.Interfaces, world.Interface{Name: "tun0", Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/32")}})
		}},
		{"a part of a network where pods are", "10.244.3.0/24", "", flat},
		{"all of a network where pods are", "10.0.0.0/8", "overlaps 10.0.0.0/8, the network of eth1", flat},
		{"the node in a network where pods are", "10.0.0.0/24", "contains 10.0.0.1, an address of Node n1", flat},
		{"the bridge of this node's pods", "10.244.3.0/24", "", func(k *world.Kernel) {
			k.Interfaces = append(k.Interfaces, world.Interface{Name: "cni0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.244.1.1/24")}})
		}},
		{"a loopback resolver", "10.244.3.0/24", "", func(k *world.Kernel) { k.Resolvers = []netip.Addr{netip.MustParseAddr("127.0.0.53")} }},
	} {
		k := ofNode()
		tt.change(k)
		w, problems := NewBuilder("n1").Build(Inputs{Kernel: k, Attachments: &world.Attachments{}, Objects: &Objects{APIServer: server, Nodes: []*corev1.Node{
			clusterNode("n1", "192.168.100.1", 0, "10.244.1.0/24"), clusterNode("n3", "192.168.100.3", 0, tt.cidr),
		}}})
		has := w.Peers.Nodes[0].PodCIDRs
		if (tt.want == "") != (len(has) == 1) || (tt.want == "") != (len(problems) == 0) || !strings.Contains(said(problems), tt.want) {
			t.Errorf("%s: it has %s, and said is %s", tt.name, has, said(problems))
		}
	}
}

// flat has the node in one network with all pods.
func flat(k *world.Kernel) {
	k.Interfaces = append(k.Interfaces, world.Interface{Name: "eth1", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}})
}

// clusterCIDRs bound peers' pod CIDRs, and where the node's own address is in them
// peers' addresses and ends of the overlay too. The node itself is not bound by them.
func TestClusterCIDRsBoundPeers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                string
		cidrs               []string
		cidr, address       string
		hasCIDR, hasAddress bool
	}{
		{"none are set", nil, "198.51.0.0/16", "203.0.113.10", true, true},
		{"an outside network", []string{"10.244.0.0/16"}, "198.51.0.0/16", "198.51.100.10", false, true},
		{"more than is allowed", []string{"10.244.0.0/16"}, "10.244.0.0/15", "192.168.100.3", false, true},
		{"inside", []string{"10.244.0.0/16"}, "10.244.3.0/24", "192.168.100.3", true, true},
		{"nodes too", []string{"10.244.0.0/16", "192.168.0.0/16"}, "10.244.3.0/24", "198.51.100.10", true, false},
		{"nodes inside", []string{"10.244.0.0/16", "192.168.0.0/16"}, "10.244.3.0/24", "192.168.101.3", true, true},
		{"the other family", []string{"10.244.0.0/16", "192.168.0.0/16"}, "fd00:3::/64", "fd00:100::3", false, true},
		{"what the node uses, whatever they say", []string{"0.0.0.0/0"}, "192.168.0.0/16", "192.168.101.3", false, true},
		{"without the node's own pods", []string{"10.9.0.0/16"}, "10.9.3.0/24", "192.168.100.3", true, true},
	} {
		c := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultConfig}, Spec: v1alpha1.AgentConfigSpec{ClusterCIDRs: tt.cidrs}}
		r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: "n3"}, Status: v1alpha1.FairleadNodeStatus{OverlayAddresses: []string{tt.address}}}
		build := func(peer *corev1.Node, reports ...*v1alpha1.FairleadNode) (*world.World, string) {
			w, problems := NewBuilder("n1").Build(Inputs{Kernel: ofNode(), Attachments: &world.Attachments{}, Objects: &Objects{
				Configs: []*v1alpha1.AgentConfig{c}, Reports: reports, Nodes: []*corev1.Node{clusterNode("n1", "192.168.100.1", 0, "10.244.1.0/24"), peer},
			}})
			return w, said(problems)
		}
		w, told := build(clusterNode("n3", tt.address, 0, tt.cidr))
		n := w.Peers.Nodes[0]
		if len(n.PodCIDRs) == 1 != tt.hasCIDR || len(n.Addresses) == 1 != tt.hasAddress || (told == "") != (tt.hasCIDR && tt.hasAddress) {
			t.Errorf("%s: it has %s and %s, and said is %s", tt.name, n.PodCIDRs, n.Addresses, told)
		}
		if len(w.Node.PodCIDRs) != 1 || len(w.Node.Addresses) != 1 {
			t.Errorf("%s: the node itself has %s and %s", tt.name, w.Node.PodCIDRs, w.Node.Addresses)
		}
		if w, told = build(clusterNode("n3", "192.168.100.3", 0), r); len(w.Peers.Nodes[0].Ends) == 1 != tt.hasAddress {
			t.Errorf("%s: it reports %s, and has %s: %s", tt.name, tt.address, w.Peers.Nodes[0].Ends, told)
		}
	}
}
