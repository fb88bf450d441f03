package controller

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

const backwards = "60999-32768 runs backwards"

// report is node's, which has read the given generation of default, and its own
// AgentConfig at generation 1.
func report(node string, generation int64, problems ...v1alpha1.Problem) *v1alpha1.FairleadNode {
	return &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: v1alpha1.FairleadNodeStatus{
		ObservedConfigs: []v1alpha1.ObservedConfig{{Name: "default", Generation: generation}, {Name: node, Generation: 1}},
		Problems:        problems,
	}}
}

func problem(object, field, reason string) v1alpha1.Problem {
	return v1alpha1.Problem{Object: object, Field: "spec." + field, Reason: reason, Hint: "write another"}
}

func config(name string, generation int64) *v1alpha1.AgentConfig {
	return &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation}}
}

// narrow is an AgentConfig that sets nodeSNATPortBlock.
func narrow(name string) *v1alpha1.AgentConfig {
	c, block := config(name, 1), 1024
	c.Spec.NodeSNATPortBlock = &block
	return c
}

// tooWide is what the agent of a node says when the block does not fit there.
func tooWide(node string) v1alpha1.Problem {
	return v1alpha1.Problem{Object: "Node " + node, Field: "nodeSNATPortBlock", Reason: "does not fit", Hint: "write another"}
}

func TestTheNodesOwnAgentConfigAnswersForWhatItSets(t *testing.T) {
	c := Cluster{Nodes: map[string]bool{"n1": true}, Configs: []*v1alpha1.AgentConfig{narrow("default"), narrow("n1")},
		Reports: []*v1alpha1.FairleadNode{report("n1", 1, tooWide("n1"))}}
	got := c.Accept()
	if got["default"].Status != metav1.ConditionTrue || got["n1"].Status != metav1.ConditionFalse {
		t.Errorf("%v", got)
	}
}

func TestAnAgentConfigIsAcceptedWhenItsNodesSaySo(t *testing.T) {
	wrong := problem("AgentConfig default", "nodeSNATPortRange", backwards)
	own := problem("AgentConfig n2", "overlay.vni", "0 is out of range")
	for _, tt := range []struct {
		name    string
		config  *v1alpha1.AgentConfig
		reports []*v1alpha1.FairleadNode
		want    string
	}{
		{"nobody there", config("default", 1), nil, "Unknown NotRead no agent has read its current version"},
		{"read by all", config("default", 1), []*v1alpha1.FairleadNode{report("n1", 1), report("n2", 1)}, "True Accepted read on 2 of 2 nodes, without a problem"},
		{"read by some", config("default", 2), []*v1alpha1.FairleadNode{report("n1", 1, wrong), report("n2", 2)}, "True Accepted read on 1 of 2 nodes, without a problem"},
		{"read as it was", config("default", 2), []*v1alpha1.FairleadNode{report("n1", 1, wrong)}, "Unknown NotRead no agent has read its current version"},
		{"wrong everywhere", config("default", 1), []*v1alpha1.FairleadNode{report("n1", 1, wrong), report("n2", 1, wrong), report("n3", 1, wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 3 of 3 nodes"},
		{"wrong on one", config("default", 1), []*v1alpha1.FairleadNode{report("n1", 1), report("n2", 1, wrong, own)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 1 of 2 nodes (n2)"},
		{"told twice by one", config("default", 1), []*v1alpha1.FairleadNode{report("n1", 1), report("n2", 1, wrong, wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 1 of 2 nodes (n2)"},
		{"two mistakes, the more common first", config("default", 1), []*v1alpha1.FairleadNode{
			report("n1", 1, wrong), report("n2", 1, problem("AgentConfig default", "a", "is wrong"), wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 2 of 2 nodes; spec.a: is wrong (write another) on 1 of 2 nodes (n2)"},
		{"a node that is gone", config("default", 1), []*v1alpha1.FairleadNode{report("n1", 1), report("gone", 1, wrong)},
			"True Accepted read on 1 of 1 node, without a problem"},
		{"of one node", config("n2", 1), []*v1alpha1.FairleadNode{report("n1", 1, own), report("n2", 1)}, "True Accepted read on 1 of 1 node, without a problem"},
		{"wrong for one node", config("n2", 1), []*v1alpha1.FairleadNode{report("n1", 1), report("n2", 1, own)},
			"False Problems spec.overlay.vni: 0 is out of range (write another) on 1 of 1 node"},
		{"what a setting leads to on a node", narrow("default"), []*v1alpha1.FairleadNode{report("n1", 1, tooWide("n1")), report("n2", 1)},
			"False Problems spec.nodeSNATPortBlock: does not fit (write another) on 1 of 2 nodes (n1)"},
		{"what another node says of it", narrow("default"), []*v1alpha1.FairleadNode{report("n1", 1, tooWide("n2"))}, "True Accepted read on 1 of 1 node, without a problem"},
		{"what the node itself is wrong about", config("default", 1), []*v1alpha1.FairleadNode{report("n1", 1, tooWide("n1"))}, "True Accepted read on 1 of 1 node, without a problem"},
		{"of no node", config("n9", 1), []*v1alpha1.FairleadNode{report("n1", 1)},
			"False NoSuchNode there is no Node n9: name an AgentConfig default, or after a Node"},
		{"of a node whose agent does not report", config("n3", 1), []*v1alpha1.FairleadNode{report("n1", 1)}, "Unknown NotRead no agent has read its current version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Cluster{Nodes: map[string]bool{"n1": true, "n2": true, "n3": true}, Configs: []*v1alpha1.AgentConfig{tt.config}, Reports: tt.reports}
			got := c.Accept()[tt.config.Name]
			if s := strings.Join([]string{string(got.Status), got.Reason, got.Message}, " "); s != tt.want {
				t.Errorf("%s\nwant %s", s, tt.want)
			}
			if got.Type != Accepted || got.ObservedGeneration != tt.config.Generation {
				t.Errorf("type %s, generation %d", got.Type, got.ObservedGeneration)
			}
		})
	}
}

// The API server takes messages of 32 KiB, and people take less.
func TestAMessageStaysReadable(t *testing.T) {
	var reports []*v1alpha1.FairleadNode
	c := Cluster{Nodes: map[string]bool{}, Configs: []*v1alpha1.AgentConfig{config("default", 1)}}
	for i := range 20 {
		var all []v1alpha1.Problem
		for j := range 20 {
			all = append(all, problem("AgentConfig default", strings.Repeat("é", i*j*10), strings.Repeat("x", 1000)))
		}
		name := "n" + strings.Repeat("1", i)
		reports = append(reports, report(name, 1, all...))
		c.Nodes[name] = true
	}
	c.Reports = reports
	got := c.Accept()["default"].Message
	if len(got) > 1<<15 || !strings.Contains(got, " more); ") || !strings.HasSuffix(got, " more") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
