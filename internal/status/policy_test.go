//go:build e2e

package status

import (
	"fmt"
	"strings"
	"testing"
)

const (
	reports = "/apis/fairlead.dev/v1alpha1/fairleadnodes"
	pods    = "/api/v1/namespaces/default/pods"
	events  = "/api/v1/namespaces/default/events"
	leases  = "/apis/coordination.k8s.io/v1/namespaces/fairlead-system/leases"

	ready = `{"type": "Ready", "status": "True"}`
	ours  = `{"type": "NetworkUnavailable", "status": "False", "reason": "FairleadReady"}`
)

func fairleadNode(name string) string {
	return fmt.Sprintf(`{"apiVersion": "fairlead.dev/v1alpha1", "kind": "FairleadNode", "metadata": {"name": %q}}`, name)
}

func eventOf(host, name string) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Event", "metadata": {"name": %q}, "involvedObject": {"kind": "Node", "name": "policy1"},
		"reason": "Test", "source": {"component": "fairlead-agent", "host": %q}}`, name, host)
}

func leaseOf(name string) string {
	return fmt.Sprintf(`{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": %q}}`, name)
}

func conditions(list string) string { return `{"status": {"conditions": [` + list + `]}}` }

func annotation(key string) string {
	return fmt.Sprintf(`{"metadata": {"annotations": {%q: "x"}}}`, key)
}

// requests are made by the agent of node policy1, one after the other.
var requests = []struct {
	verb, path, body string
	refusal          string // a part of it; "": it is allowed
}{
	{"POST", reports, fairleadNode("policy1"), ""},
	{"PATCH", reports + "/policy1/status", `{"status": {"observedRevision": 1, "appliedRevision": 1}}`, ""},
	{"POST", reports, fairleadNode("policy3"), "no other node's FairleadNode"},
	{"PATCH", reports + "/policy2/status", `{"status": {"observedRevision": 1, "appliedRevision": 1}}`, "no other node's FairleadNode"},
	{"DELETE", reports + "/policy1", "", "deletes nothing"},

	{"PATCH", realNode + "policy1/status", conditions(ready + "," + ours), ""},
	{"PATCH", realNode + "policy1/status", conditions(ready), ""}, // takes ours back
	{"PATCH", realNode + "policy1/status", conditions(""), "NetworkUnavailable and nothing else"},
	{"PATCH", realNode + "policy1/status", conditions(`{"type": "Ready", "status": "False"}`), "NetworkUnavailable and nothing else"},
	{"PATCH", realNode + "policy1/status", `{"status": {"capacity": {"cpu": "64"}}}`, "NetworkUnavailable and nothing else"},
	{"PATCH", realNode + "policy1/status", `{"status": {"images": null}}`, "NetworkUnavailable and nothing else"},
	{"PATCH", realNode + "policy1/status", `{"metadata": {"labels": {"a": "b"}}}`, "NetworkUnavailable and nothing else"},
	{"PATCH", realNode + "policy1/status", annotation("fairlead.dev/test"), "NetworkUnavailable and nothing else"},
	{"PATCH", realNode + "policy1", `{"spec": {"unschedulable": true}}`, "only the status of its own Node"},
	{"PATCH", realNode + "policy2/status", conditions(ready + "," + ours), "only the status of its own Node"},
	{"POST", "/api/v1/nodes", `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "policy1b"}}`, "only the status of its own Node"},
	{"DELETE", realNode + "policy1", "", "deletes nothing"},

	{"PATCH", pods + "/pod-policy1", annotation("fairlead.dev/test"), ""},
	{"PATCH", pods + "/pod-policy1", annotation("nodeportlocal.antrea.io"), ""},
	{"PATCH", pods + "/pod-policy1", `{"metadata": {"annotations": {"fairlead.dev/test": null}}}`, ""},
	{"PATCH", pods + "/pod-policy1", annotation("example.com/a"), "and nothing else"},
	{"PATCH", pods + "/pod-policy1", annotation("example.com/other"), "and nothing else"},
	{"PATCH", pods + "/pod-policy1", `{"metadata": {"annotations": {"example.com/other": null}}}`, "and nothing else"},
	{"PATCH", pods + "/pod-policy1", `{"metadata": {"labels": {"app": "b"}}}`, "and nothing else"},
	{"PATCH", pods + "/pod-policy1", `{"metadata": {"labels": null}}`, "and nothing else"},
	{"PATCH", pods + "/pod-policy1", `{"metadata": {"finalizers": ["example.com/f"]}}`, "and nothing else"},
	{"PATCH", pods + "/pod-policy1", `{"spec": {"activeDeadlineSeconds": 5}}`, "and nothing else"},
	{"PATCH", pods + "/pod-policy1/status", `{"status": {"phase": "Failed"}}`, "no other node's pods"},
	{"PATCH", pods + "/pod-policy2", annotation("fairlead.dev/test"), "no other node's pods"},
	{"POST", pods + "/pod-policy1/eviction", `{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "pod-policy1"}}`, "no other node's pods"},
	{"POST", pods, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new"}, "spec": {"nodeName": "policy1", "containers": [{"name": "c", "image": "none"}]}}`, "no other node's pods"},
	{"DELETE", pods + "/pod-policy1", "", "deletes nothing"},

	{"POST", events, eventOf("policy1", "own"), ""},
	{"PATCH", events + "/own", `{"count": 2}`, ""},
	{"POST", events, eventOf("policy2", "own2"), "no other's events"},
	{"PATCH", events + "/own", `{"source": {"host": "policy2"}}`, "no other's events"},
	{"PATCH", events + "/other", `{"source": {"host": "policy1"}}`, "no other's events"},
	{"DELETE", events + "/own", "", "deletes nothing"},

	{"POST", leases, leaseOf("agent-policy1"), ""},
	{"PATCH", leases + "/agent-policy1", `{"spec": {"leaseDurationSeconds": 40}}`, ""},
	{"POST", leases, leaseOf("agent-policy2"), "no Lease but agent-policy1"},
	{"PATCH", leases + "/agent-other", `{"spec": {"leaseDurationSeconds": 4000}}`, "no Lease but agent-policy1"},
	{"PATCH", leases + "/fairlead-controller", `{"spec": {"holderIdentity": "policy1"}}`, "no Lease but agent-policy1"},
	{"DELETE", leases + "/agent-policy1", "", "deletes nothing"},
}

// An agent that may do everything but for the policy may write only what is its
// node's.
func TestThePolicyHoldsAnAgentToItsNode(t *testing.T) {
	admin := administrator(t)
	for _, n := range []string{"policy1", "policy2"} {
		admin.makeNode(n)
		admin.must("PATCH", realNode+n+"/status", `{"status": {"conditions": [{"type": "Ready", "status": "True"}], "images": [`+
			strings.Repeat(`{"names": ["example.com/an/image@sha256:0123456789abcdef", "example.com/an/image:v1"], "sizeBytes": 1},`, 49)+`{"names": ["a"]}]}}`)
		admin.makePod("default", "pod-"+n, n)
	}
	admin.make("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", `{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
		"metadata": {"name": "test-agent-may-all"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
		"subjects": [{"kind": "ServiceAccount", "name": "fairlead-agent", "namespace": "fairlead-system"}]}`)
	agent := admin.agentOf("policy1")
	eventually(t, "the agent may all", func() bool {
		_, err := agent.ask("GET", "/api/v1/secrets", "")
		return err == nil
	})
	admin.make(reports, fairleadNode("policy2"))
	admin.make(events, eventOf("policy2", "other"))
	admin.make(leases, leaseOf("agent-other"))
	t.Cleanup(func() {
		admin.remove(leases + "/agent-policy1")
		admin.remove(reports + "/policy1")
		admin.remove(events + "/own")
	})
	for _, tt := range requests {
		_, err := agent.ask(tt.verb, tt.path, tt.body)
		if tt.refusal == "" && err != nil || tt.refusal != "" && (err == nil || !strings.Contains(err.Error(), tt.refusal)) {
			t.Errorf("%s %s %s: %v, want %q", tt.verb, tt.path, tt.body, err, tt.refusal)
		}
	}
	unbound := admin.holding(`{}`)
	if _, err := unbound.ask("PATCH", pods+"/pod-policy1", annotation("fairlead.dev/test")); err == nil || !strings.Contains(err.Error(), "does not say which node") {
		t.Errorf("a token that is no pod's: %v", err)
	}
}
