package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// clusterNode is a Node that was made so many minutes after the cluster.
func clusterNode(name, address string, minutes int, cidrs ...string) *corev1.Node {
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(made)},
		Spec:       corev1.NodeSpec{PodCIDRs: cidrs},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

// held are the pod CIDRs that the nodes of w have.
func held(w *world.World) string {
	var out []string
	for _, n := range append([]*world.Node{w.Node}, w.Peers.Nodes...) {
		for _, c := range n.PodCIDRs {
			out = append(out, n.Name+" "+c.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func said(problems []world.Problem) string {
	var out []string
	for _, p := range problems {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// A node that came last takes nothing from those that were there, whatever its
// name and however wide the pod CIDR is that it claims.
func TestALaterNodeTakesNoPodCIDR(t *testing.T) {
	t.Parallel()
	for _, wide := range []string{"10.244.0.0/16", "10.244.1.0/24", "10.244.2.0/25"} {
		objects := &Objects{Nodes: []*corev1.Node{
			clusterNode("aa", "192.168.100.9", 60, wide),
			clusterNode("n1", "192.168.100.1", 0, "10.244.1.0/24"),
			clusterNode("n2", "192.168.100.2", 0, "10.244.2.0/24"),
		}}
		w, problems := NewBuilder("n1").Build(Inputs{Objects: objects, Kernel: &world.Kernel{}, Attachments: &world.Attachments{}})
		if got := held(w); got != "n1 10.244.1.0/24, n2 10.244.2.0/24" {
			t.Errorf("%s: in force are %s", wide, got)
		}
		for _, p := range []string{"Node aa: spec.podCIDRs: " + wide + " overlaps ", " is claimed by Node aa too"} {
			if !strings.Contains(said(problems), p) {
				t.Errorf("%s: %q is not said in\n%s", wide, p, said(problems))
			}
		}
	}
}

// A node keeps its own pod CIDR, also where another was there before it.
func TestANodeKeepsItsOwnPodCIDR(t *testing.T) {
	t.Parallel()
	objects := &Objects{Nodes: []*corev1.Node{
		clusterNode("aa", "192.168.100.9", 0, "10.244.0.0/16"),
		clusterNode("n1", "192.168.100.1", 60, "10.244.1.0/24"),
	}}
	w, problems := NewBuilder("n1").Build(Inputs{Objects: objects, Kernel: &world.Kernel{}, Attachments: &world.Attachments{}})
	if got := held(w); got != "n1 10.244.1.0/24" || !strings.Contains(said(problems), "Node aa") || !strings.Contains(said(problems), "Node n1") {
		t.Errorf("in force are %s, and told is\n%s", got, said(problems))
	}
}

// What a peer has in force it keeps against a Node that is older and claims it only
// now, or in a directory, where nothing is older, against one whose name is before
// its own; also once the agent was started anew.
func TestWhatIsInForceIsKept(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]*corev1.Node{
		"an older Node":         clusterNode("zz", "192.168.100.9", -60, "10.244.0.0/16"),
		"a name that is before": clusterNode("aa", "192.168.100.9", 0, "10.244.0.0/16"),
	} {
		in := Inputs{Kernel: &world.Kernel{}, Attachments: &world.Attachments{}, Objects: &Objects{Nodes: []*corev1.Node{
			clusterNode("n1", "192.168.100.1", 0, "10.244.1.0/24"), clusterNode("n2", "192.168.100.2", 0, "10.244.2.0/24"),
		}}}
		b := NewBuilder("n1")
		w, _ := b.Build(in)
		in.Before, in.Allocations = w.Peers, w.Allocations
		in.Objects = &Objects{Nodes: append(in.Objects.Nodes, later)}
		w, _ = b.Build(in)
		if got := held(w); got != "n1 10.244.1.0/24, n2 10.244.2.0/24" {
			t.Errorf("%s: in force are %s", name, got)
		}
		in.Before, in.Allocations = nil, w.Allocations
		w, _ = NewBuilder("n1").Build(in)
		if got := held(w); got != "n1 10.244.1.0/24, n2 10.244.2.0/24" {
			t.Errorf("%s, after a restart: in force are %s", name, got)
		}
		in.Objects = &Objects{Nodes: in.Objects.Nodes[:2]}
		if w, _ = NewBuilder("n1").Build(in); len(Contested.Of(w.Allocations).List) > 0 {
			t.Errorf("%s: once it is gone, %+v is remembered", name, Contested.Of(w.Allocations).List)
		}
	}
}

// However many pod CIDRs one node claims, a sentence names a few of their nodes, and
// few are told.
func TestOneNodeThatClaimsAllIsToldShortly(t *testing.T) {
	t.Parallel()
	objects := &Objects{Nodes: []*corev1.Node{clusterNode("aa", "192.168.100.1", 60, "10.0.0.0/8")}}
	for i := range 500 {
		objects.Nodes = append(objects.Nodes, clusterNode(fmt.Sprintf("n%d", i), fmt.Sprintf("192.168.%d.%d", 101+i/250, i%250+1), 0,
			fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)))
	}
	_, problems := NewBuilder("n1").Build(Inputs{Objects: objects, Kernel: &world.Kernel{}, Attachments: &world.Attachments{}})
	if len(problems) != quote.Few+1 || !strings.Contains(said(problems), "and 492 more, which keep theirs") || len(said(problems)) > 2500 {
		t.Errorf("%d problems in %d bytes:\n%s", len(problems), len(said(problems)), said(problems))
	}
}

// A node that leaves the pod network to another says which peers do not.
func TestANodeBesideAnotherNetworkNamesPeersThatAreNot(t *testing.T) {
	t.Parallel()
	none := "none"
	c := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: v1alpha1.AgentConfigSpec{Overlay: &v1alpha1.Overlay{Mode: &none}}}
	o := &Objects{Configs: []*v1alpha1.AgentConfig{c}}
	for i, mode := range []string{"none", "vxlan", "", "direct", "none"} {
		name := fmt.Sprintf("n%d", i+1)
		o.Nodes = append(o.Nodes, clusterNode(name, "192.168.100."+name[1:], 0))
		r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.FairleadNodeStatus{Overlay: &v1alpha1.OverlayInForce{Mode: mode}}}
		o.Reports = append(o.Reports, ForOthers(r))
	}
	_, problems := NewBuilder("n1").Build(Inputs{Objects: o, Kernel: &world.Kernel{}, Attachments: &world.Attachments{}})
	if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), "Node n1: overlay.mode: is none, and another on n2 and n4: ") {
		t.Errorf("said is %s", said(problems))
	}
}
