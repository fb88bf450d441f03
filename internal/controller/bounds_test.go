package controller

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// many is a cluster of n nodes with long names, each of which says something else of
// default, as much as has room, and has an AgentConfig of its own.
func many(n int) *Cluster {
	c := &Cluster{Nodes: nodesOf(), Objects: []Object{ofConfig(config("default", 1))}}
	for i := range n {
		name := fmt.Sprintf("n%d-%s", i, strings.Repeat("x", 240))
		var found []v1alpha1.ObjectReport
		for j := range 12 {
			found = append(found, problem("AgentConfig default", fmt.Sprintf("f%d.%d", i, j), strings.Repeat("y", 600)))
		}
		c.Nodes[name] = &corev1.Node{}
		c.Objects = append(c.Objects, ofConfig(config(name, 1)))
		c.Reports = append(c.Reports, reportOf(name, 1, found...))
	}
	return c
}

// Whatever 5,000 nodes say, a condition has no more to say than what a few do, and
// names one node for each thing.
func TestAConditionOf5000NodesIsSmall(t *testing.T) {
	c := many(5000)
	verdicts := c.Verdicts()
	got := verdicts["AgentConfig default"]
	if len(got) != 1 || got[0].Status != metav1.ConditionFalse || len(got[0].Message) > 10<<10 {
		t.Errorf("%d conditions, %s, message of %d bytes", len(got), got[0].Status, len(got[0].Message))
	}
	if named := strings.Count(got[0].Message, "-xxx"); named != mostFindings {
		t.Errorf("%d names", named)
	}
	if len(verdicts) != 5001 {
		t.Errorf("%d verdicts", len(verdicts))
	}
	for _, r := range c.Reports { // all say the same
		*r = *reportOf(r.Name, 1, problem("AgentConfig default", "a", "is wrong"))
	}
	if got := c.Verdicts()["AgentConfig default"][0].Message; got != "spec.a: is wrong (write another) on 5000 of 5000 nodes" {
		t.Errorf("%.1000s", got)
	}
}

// Whatever nodes say, in whatever order they come: the conditions are the same, and of
// what nobody makes conditions of nothing comes.
func FuzzVerdicts(f *testing.F) {
	f.Add(uint64(1), "AgentConfig default", "is wrong")
	f.Add(uint64(2), "AgentConfig n1", strings.Repeat("語", 1000))
	f.Add(uint64(3), "Node n1", "")
	f.Fuzz(func(t *testing.T, seed uint64, object, message string) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := &Cluster{Nodes: nodesOf(), Objects: []Object{ofConfig(config("default", 1)), ofConfig(config("n1", 1)), ofConfig(config("n99", 2))}}
		for i := range random.IntN(20) {
			r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}}
			if random.IntN(4) > 0 {
				c.Nodes[r.Name] = &corev1.Node{}
			}
			if random.IntN(4) == 0 {
				r.Status.Conditions = []metav1.Condition{{Type: ready, Status: metav1.ConditionUnknown}}
			}
			for range random.IntN(30) {
				r.Status.ObjectReports = append(r.Status.ObjectReports, v1alpha1.ObjectReport{
					Object: one(random, "AgentConfig default", "AgentConfig n1", object), Type: one(random, "Accepted", "Accepted", message),
					Status: one(random, metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown, metav1.ConditionStatus(message)),
					Reason: one(random, "A", "B", message), Message: one(random, "a", message, ""), ObservedGeneration: one(random, int64(1), 1, 2)})
			}
			c.Reports = append(c.Reports, r)
		}
		first := c.Verdicts()
		random.Shuffle(len(c.Reports), func(i, j int) { c.Reports[i], c.Reports[j] = c.Reports[j], c.Reports[i] })
		slices.Reverse(c.Objects)
		if again := c.Verdicts(); !maps.EqualFunc(first, again, slices.Equal[[]metav1.Condition]) {
			t.Errorf("%v\nin another order %v", first, again)
		}
		if len(first) != len(c.Objects) {
			t.Errorf("%d objects have conditions", len(first))
		}
		for name, conditions := range first {
			if len(conditions) != 1 || conditions[0].Reason == "" || conditions[0].Message == "" || len(conditions[0].Message) > 10<<10 {
				t.Errorf("%s: %v", name, conditions)
			}
			if s := conditions[0].Status; s != metav1.ConditionTrue && s != metav1.ConditionFalse && s != metav1.ConditionUnknown {
				t.Errorf("%s: status %q", name, s)
			}
		}
	})
}

// one is one of them.
func one[T any](random *rand.Rand, of ...T) T { return of[random.IntN(len(of))] }
