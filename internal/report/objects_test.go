package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

func agentConfig(name string, generation int64) *v1alpha1.AgentConfig {
	return &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation}}
}

// narrow is an AgentConfig that sets nodeSNATPortBlock.
func narrow(name string) *v1alpha1.AgentConfig {
	c, block := agentConfig(name, 1), 1024
	c.Spec.NodeSNATPortBlock = &block
	return c
}

// Every AgentConfig that a node's settings are made of is answered for: by what is said
// of it, and by what it leads to on the node.
func TestANodeSaysWhatCameOfItsSettings(t *testing.T) {
	wrong := func(object, field string) world.Problem {
		return world.Problem{Object: object, Field: "spec." + field, Reason: "is wrong", Hint: "write another"}
	}
	tooWide := func(node string) world.Problem {
		return world.Problem{Object: "Node " + node, Field: "nodeSNATPortBlock", Reason: "does not fit", Hint: "write another"}
	}
	elsewhere := wrong("AgentConfig default", "a")
	elsewhere.Source = "another.yaml"
	for _, tt := range []struct {
		name     string
		configs  []*v1alpha1.AgentConfig
		problems []world.Problem
		want     string
	}{
		{"nothing was written", nil, []world.Problem{tooWide("n1")}, ""},
		{"in order", []*v1alpha1.AgentConfig{agentConfig("default", 7), agentConfig("n1", 2)}, nil,
			"default@7 true Accepted ; n1@2 true Accepted "},
		{"wrong", []*v1alpha1.AgentConfig{agentConfig("default", 7), agentConfig("n1", 2)},
			[]world.Problem{wrong("AgentConfig default", "a"), wrong("AgentConfig default", "b"), wrong("AgentConfig n2", "c"), wrong("Pod a/default", "d")},
			"default@7 false Problems spec.a: is wrong (write another); default@7 false Problems spec.b: is wrong (write another); n1@2 true Accepted "},
		{"told twice", []*v1alpha1.AgentConfig{agentConfig("default", 1)}, []world.Problem{wrong("AgentConfig default", "a"), elsewhere},
			"default@1 false Problems spec.a: is wrong (write another)"},
		{"of no field, with no way out", []*v1alpha1.AgentConfig{agentConfig("default", 1)}, []world.Problem{{Object: "AgentConfig default", Reason: "is no object"}},
			"default@1 false Problems is no object"},
		{"the node's own answers for what it sets", []*v1alpha1.AgentConfig{narrow("default"), narrow("n1")}, []world.Problem{tooWide("n1")},
			"default@1 true Accepted ; n1@1 false Problems spec.nodeSNATPortBlock: does not fit (write another)"},
		{"the default one for the rest", []*v1alpha1.AgentConfig{narrow("default"), agentConfig("n1", 2)}, []world.Problem{tooWide("n1")},
			"default@1 false Problems spec.nodeSNATPortBlock: does not fit (write another); n1@2 true Accepted "},
		{"what is said of another node", []*v1alpha1.AgentConfig{narrow("default")}, []world.Problem{tooWide("n2")}, "default@1 true Accepted "},
		{"what the node itself is wrong about", []*v1alpha1.AgentConfig{agentConfig("default", 1)}, []world.Problem{tooWide("n1")}, "default@1 true Accepted "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said []string
			for _, r := range configReports(tt.configs, "n1", tt.problems) {
				if r.Type != "Accepted" {
					t.Errorf("type %s", r.Type)
				}
				said = append(said, fmt.Sprintf("%s@%d %v %s %s", strings.TrimPrefix(r.Object, "AgentConfig "), r.Generation, r.Status, r.Reason, r.Message))
			}
			if got := strings.Join(said, "; "); got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// What one object has much of leaves no other without its report.
func TestOfManyReportsEveryObjectHasItsFirst(t *testing.T) {
	var reports []world.Report
	for i := range 200 {
		reports = append(reports, world.Report{Object: "Egress a", Type: "Allocated", Reason: "Exhausted", Message: fmt.Sprint(i)})
	}
	reports = append(reports, world.Report{Object: "Egress b", Type: "Allocated", Status: true, Reason: "Allocated"},
		world.Report{Object: "Egress a", Type: "Ready", Status: true, Reason: "Works"})
	var status v1alpha1.FairleadNodeStatus
	listReports(&status, reports)
	var got []string
	for _, r := range status.ObjectReports[:4] {
		got = append(got, r.Object+" "+r.Type+" "+r.Message)
	}
	if want := []string{"Egress a Allocated 0", "Egress b Allocated ", "Egress a Ready ", "Egress a Allocated 1"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if len(status.ObjectReports) != v1alpha1.MaxObjectReports || status.MoreObjectReports != 102 {
		t.Errorf("%d reports and %d more", len(status.ObjectReports), status.MoreObjectReports)
	}
}
