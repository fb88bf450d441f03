package tests

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/e2e/cluster"
)

// An agent that is gone leaves the network, and says no longer that it works. Back
// again, it says so at once.
func TestANodeWhoseAgentIsGoneSaysThatNobodyKnows(t *testing.T) {
	const node = "node2"
	ns := namespace(t)
	a, b := run(t, ns, "a", "node1"), run(t, ns, "b", node)
	agents := func(strategy, affinity string) {
		kubectl(t, "-n", cluster.FairleadNamespace, "patch", "daemonset", "fairlead-agent", "--type=merge", "-p",
			`{"spec": {"updateStrategy": `+strategy+`, "template": {"spec": {"affinity": `+affinity+`}}}}`)
	}
	was := kubectl(t, "-n", cluster.FairleadNamespace, "get", "daemonset", "fairlead-agent", "-o", "jsonpath={.spec.updateStrategy}")
	t.Cleanup(func() { agents(was, "null") }) // the test may have failed before it did
	// Others stay as they are, and of this node there is none.
	agents(`{"type": "OnDelete", "rollingUpdate": null}`, fmt.Sprintf(`{"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
		[{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [%q]}]}]}}}`, node))
	long, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	if err := cluster.Eventually(long, "nobody knows", func(context.Context) error {
		if network, ready := said(t, node); network != "Unknown FairleadSilent" || ready != "Unknown" {
			return fmt.Errorf("NetworkUnavailable is %s, Ready %s", network, ready)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if network, ready := said(t, "node1"); network != "False FairleadReady" || ready != "True" {
		t.Errorf("of node1, whose agent is there, it is said: NetworkUnavailable %s, Ready %s", network, ready)
	}
	var n corev1.Node
	get(t, &n, "node", node)
	for _, taint := range n.Spec.Taints {
		t.Errorf("the Node has the taint %s", taint.Key)
	}
	if err := a.hears(t, "http://"+b.address+":8080/hostname", "b"); err != nil {
		t.Error(err)
	}
	agents(was, "null")
	until(t, "the agent says how it is", func() error {
		if network, ready := said(t, node); network != "False FairleadReady" || ready != "True" {
			return fmt.Errorf("NetworkUnavailable is %s, Ready %s", network, ready)
		}
		return nil
	})
	if err := shared.FairleadReady(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// said is what is said of a node: by its Node, and by its FairleadNode.
func said(t *testing.T, node string) (network, ready string) {
	t.Helper()
	network = kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="NetworkUnavailable")].status} {.status.conditions[?(@.type=="NetworkUnavailable")].reason}`)
	ready = kubectl(t, "get", "fairleadnode", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	return network, ready
}
