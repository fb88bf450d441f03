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
