package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
)

const backwards = "60999-32768 runs backwards"

// reportOf is node's, which has read the given generation of default, and its own
// AgentConfig at generation 1. What it does not find anything wrong with is accepted.
func reportOf(node string, generation int64, found ...v1alpha1.ObjectReport) *v1alpha1.FairleadNode {
	r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: node}}
	for _, o := range []struct {
		name       string
		generation int64
	}{{"default", generation}, {node, 1}} {
		wrong := false
		for _, f := range found {
			if f.Object == "AgentConfig "+o.name {
				f.ObservedGeneration, wrong = o.generation, true
				r.Status.ObjectReports = append(r.Status.ObjectReports, f)
			}
		}
		if !wrong {
			r.Status.ObjectReports = append(r.Status.ObjectReports, v1alpha1.ObjectReport{Object: "AgentConfig " + o.name,
				Type: "Accepted", Status: "True", Reason: "Accepted", ObservedGeneration: o.generation})
		}
	}
	return r
}

// silentReport is that of a node whose agent is not heard of any more.
func silentReport(node string, found ...v1alpha1.ObjectReport) *v1alpha1.FairleadNode {
	r := reportOf(node, 1, found...)
	r.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "Unknown", Reason: reasonSilentAgent}}
	return r
}

// problem is that a field of an object is wrong, as an agent reports it.
func problem(object, field, reason string) v1alpha1.ObjectReport {
	return v1alpha1.ObjectReport{Object: object, Type: "Accepted", Status: "False", Reason: "Problems",
		Message: quote.Text("spec."+field+": "+reason+" (write another)", 512)}
}

// unsure is that a node cannot tell.
func unsure() v1alpha1.ObjectReport {
	return v1alpha1.ObjectReport{Object: "AgentConfig default", Type: "Accepted", Status: "Unknown", Reason: "NotAsked", Message: "nobody asked"}
}

func config(name string, generation int64) *v1alpha1.AgentConfig {
	return &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation}}
}

func nodesOf(names ...string) map[string]*corev1.Node {
	out := map[string]*corev1.Node{}
	for _, name := range names {
		out[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	return out
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
		{"read by all", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), reportOf("n2", 1)}, "True Accepted read on 2 of 2 nodes, without a problem"},
		{"read by some", config("default", 2), []*v1alpha1.FairleadNode{reportOf("n1", 1, wrong), reportOf("n2", 2)}, "True Accepted read on 1 of 2 nodes, without a problem"},
		{"read as it was", config("default", 2), []*v1alpha1.FairleadNode{reportOf("n1", 1, wrong)}, "Unknown NotRead no agent has read its current version"},
		{"wrong everywhere", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1, wrong), reportOf("n2", 1, wrong), reportOf("n3", 1, wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 3 of 3 nodes"},
		{"wrong on one", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), reportOf("n2", 1, wrong, own)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 1 of 2 nodes (n2)"},
		{"told twice by one", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), reportOf("n2", 1, wrong, wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 1 of 2 nodes (n2)"},
		{"two mistakes, the more common first", config("default", 1), []*v1alpha1.FairleadNode{
			reportOf("n1", 1, wrong), reportOf("n2", 1, problem("AgentConfig default", "a", "is wrong"), wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 2 of 2 nodes; spec.a: is wrong (write another) on 1 of 2 nodes (n2)"},
		{"a node that is gone", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), reportOf("gone", 1, wrong)},
			"True Accepted read on 1 of 1 node, without a problem"},
		{"of one node", config("n2", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1, own), reportOf("n2", 1)}, "True Accepted read on 1 of 1 node, without a problem"},
		{"wrong for one node", config("n2", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), reportOf("n2", 1, own)},
			"False Problems spec.overlay.vni: 0 is out of range (write another) on 1 of 1 node"},
		{"wrong on some, and nobody knows of one", config("default", 1), []*v1alpha1.FairleadNode{silentReport("n1"), reportOf("n2", 1, wrong), reportOf("n3", 1, wrong)},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 2 of 3 nodes (n2 and 1 more); unknown on 1 of 3 nodes, whose agents are silent"},
		{"was wrong on one that is silent", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), silentReport("n2", wrong)},
			"True Accepted read on 1 of 2 nodes, without a problem; unknown on 1 of 2 nodes, whose agents are silent"},
		{"all are silent", config("default", 1), []*v1alpha1.FairleadNode{silentReport("n1", wrong), silentReport("n2")},
			"Unknown NotRead no agent has read its current version; unknown on 2 of 2 nodes, whose agents are silent"},
		{"its only one is silent", config("n2", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), silentReport("n2", own)},
			"Unknown NotRead no agent has read its current version; unknown on 1 of 1 node, whose agents are silent"},
		{"one cannot tell", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1), reportOf("n2", 1, unsure())},
			"True Accepted read on 2 of 2 nodes, without a problem; nobody asked on 1 of 2 nodes (n2)"},
		{"nobody can tell", config("default", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1, unsure())},
			"Unknown NotAsked nobody asked on 1 of 1 node"},
		{"one is wrong and one cannot tell", config("default", 1), []*v1alpha1.FairleadNode{
			reportOf("n1", 1, unsure()), reportOf("n2", 1, wrong), reportOf("n3", 1, unsure())},
			"False Problems spec.nodeSNATPortRange: 60999-32768 runs backwards (write another) on 1 of 3 nodes (n2); nobody asked on 2 of 3 nodes (n1 and 1 more)"},
		{"of no node", config("n9", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1)},
			"False NoSuchNode there is no Node n9: name an AgentConfig default, or after a Node"},
		{"of a node whose agent does not report", config("n3", 1), []*v1alpha1.FairleadNode{reportOf("n1", 1)}, "Unknown NotRead no agent has read its current version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Cluster{Nodes: nodesOf("n1", "n2", "n3"), Objects: []Object{ofConfig(tt.config)}, Reports: tt.reports}
			got := c.Verdicts()["AgentConfig "+tt.config.Name][0]
			if s := strings.Join([]string{string(got.Status), got.Reason, got.Message}, " "); s != tt.want {
				t.Errorf("%s\nwant %s", s, tt.want)
			}
			if got.Type != "Accepted" || got.ObservedGeneration != tt.config.Generation {
				t.Errorf("type %s, generation %d", got.Type, got.ObservedGeneration)
			}
		})
	}
}

// The API server takes messages of 32 KiB, and people take less.
func TestAMessageStaysReadable(t *testing.T) {
	var reports []*v1alpha1.FairleadNode
	c := Cluster{Nodes: nodesOf(), Objects: []Object{ofConfig(config("default", 1))}}
	for i := range 20 {
		var all []v1alpha1.ObjectReport
		for j := range 20 {
			all = append(all, problem("AgentConfig default", strings.Repeat("é", i*j*10), strings.Repeat("x", 1000)))
		}
		name := "n" + strings.Repeat("1", i)
		reports = append(reports, reportOf(name, 1, all...))
		c.Nodes[name] = &corev1.Node{}
	}
	c.Reports = reports
	got := c.Verdicts()["AgentConfig default"][0].Message
	if len(got) > 1<<15 || !strings.Contains(got, " more); ") || !strings.HasSuffix(got, " more") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
