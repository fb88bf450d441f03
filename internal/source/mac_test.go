package source

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/world"
)

// Of two nodes whose names lead to one hardware address the one that was there keeps
// it: the node itself, a peer that has it in force, an older one, the first by name.
func TestAHardwareAddressIsOneNodes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		alike  string // names that lead to one
		nodes  []*corev1.Node
		before string // the peers that were there before, if any were
		wants  string // who has none
	}{
		{"the node's own", "n1 aa", []*corev1.Node{clusterNode("n1", "192.168.100.1", 60), clusterNode("aa", "192.168.100.2", 0)}, "", "aa"},
		{"an older peer's", "n2 aa", []*corev1.Node{clusterNode("n1", "192.168.100.1", 0), clusterNode("n2", "192.168.100.2", 0), clusterNode("aa", "192.168.100.3", 60)}, "", "aa"},
		{"one in force", "n2 aa", []*corev1.Node{clusterNode("n1", "192.168.100.1", 0), clusterNode("n2", "192.168.100.2", 0), clusterNode("aa", "192.168.100.3", -60)}, "n2", "aa"},
		{"nothing but names", "n2 n3", []*corev1.Node{clusterNode("n1", "192.168.100.1", 0), clusterNode("n2", "192.168.100.2", 0), clusterNode("n3", "192.168.100.3", 0)}, "", "n3"},
		{"others'", "n8 n9", []*corev1.Node{clusterNode("n1", "192.168.100.1", 0), clusterNode("n2", "192.168.100.2", 0)}, "", ""},
	} {
		b := NewBuilder("n1")
		b.mac = func(node string) world.MAC {
			if strings.Contains(tt.alike, node) {
				return world.MAC{2, 0, 0, 0, 0, 1}
			}
			return world.OverlayMAC(node)
		}
		in := Inputs{Kernel: &world.Kernel{}, Attachments: &world.Attachments{}, Objects: &Objects{Nodes: tt.nodes}}
		if tt.before != "" {
			in.Before = &world.Peers{Nodes: []*world.Node{{Name: tt.before, MAC: b.mac(tt.before)}}}
		}
		w, problems := b.Build(in)
		for _, n := range append(w.Peers.Nodes, w.Node) {
			if none := n.MAC == (world.MAC{}); none != (n.Name == tt.wants) {
				t.Errorf("%s: %s has %v", tt.name, n.Name, n.MAC)
			}
		}
		if told := strings.Contains(said(problems), "Node "+tt.wants+": metadata.name: "); told != (tt.wants != "") || len(problems) > 1 {
			t.Errorf("%s: said is %s", tt.name, said(problems))
		}
	}
}
