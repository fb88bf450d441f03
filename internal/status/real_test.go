//go:build e2e

// These tests need a Kubernetes API server with Fairlead's manifests and a
// controller manager: e2e/tests has one made, and runs them.

package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/kube"
)

const realNode = "/api/v1/nodes/"

// A real is somebody's connection to the API server.
type real struct {
	t      *testing.T
	config *rest.Config
	client rest.Interface
}

// administrator is who $KUBECONFIG says.
func administrator(t *testing.T) real {
	t.Helper()
	config, err := kube.Connection{Kubeconfig: os.Getenv("KUBECONFIG"), UserAgent: "test"}.Config()
	if err != nil {
		t.Fatal(err)
	}
	return newReal(t, config)
}

func newReal(t *testing.T, config *rest.Config) real {
	t.Helper()
	client, err := kube.Client(config, corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	return real{t, config, client}
}

// ask sends YAML, which JSON is, and returns the answer.
func (r real) ask(verb, path, body string) ([]byte, error) {
	path, query, _ := strings.Cut(path, "?")
	q := r.client.Verb(verb).AbsPath(path).SetHeader("Accept", "application/json").MaxRetries(0)
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			q = q.Param(key, value)
		}
	}
	if body != "" {
		q = q.Body([]byte(body)).SetHeader("Content-Type", map[string]string{
			"PATCH": "application/merge-patch+json"}[verb])
		if verb != "PATCH" {
			q = q.SetHeader("Content-Type", "application/json")
		}
	}
	out, err := q.DoRaw(r.t.Context())
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return out, err
}

func (r real) must(verb, path, body string) []byte {
	r.t.Helper()
	out, err := r.ask(verb, path, body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", verb, path, err)
	}
	return out
}

// make creates an object that goes when the test ends.
func (r real) make(path, body string) {
	r.t.Helper()
	var made metav1.PartialObjectMetadata
	if err := json.Unmarshal(r.must("POST", path, body), &made); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.remove(path + "/" + made.Name) })
}

// remove deletes what may be gone already.
func (r real) remove(path string) {
	_, _ = r.client.Delete().AbsPath(path).Param("gracePeriodSeconds", "0").DoRaw(context.Background())
}

func (r real) get(path string, into any) {
	r.t.Helper()
	if err := json.Unmarshal(r.must("GET", path, ""), into); err != nil {
		r.t.Fatal(err)
	}
}

func (r real) makeNode(name string) {
	r.t.Helper()
	r.make("/api/v1/nodes", fmt.Sprintf(`{"apiVersion": "v1", "kind": "Node", "metadata": {"name": %q}}`, name))
}

// makePod makes a pod that runs nowhere, on a node that is none.
func (r real) makePod(namespace, name, node string) types.UID {
	r.t.Helper()
	r.make("/api/v1/namespaces/"+namespace+"/pods", fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod",
		"metadata": {"name": %q, "labels": {"app": "a"}, "annotations": {"example.com/other": "stays"}},
		"spec": {"nodeName": %q, "serviceAccountName": %q, "containers": [{"name": "c", "image": "none"}]}}`,
		name, node, map[string]string{"fairlead-system": "fairlead-agent", "default": "default"}[namespace]))
	var p corev1.Pod
	r.get("/api/v1/namespaces/"+namespace+"/pods/"+name, &p)
	return p.UID
}

// agentOf is the agent of a node, by the token of a pod on it.
func (r real) agentOf(node string) real {
	r.t.Helper()
	pod := "fairlead-agent-" + node
	uid := r.makePod("fairlead-system", pod, node)
	return r.holding(fmt.Sprintf(`{"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": %q, "uid": %q}}`, pod, uid))
}

// holding is the agents' service account with a token of the spec.
func (r real) holding(spec string) real {
	r.t.Helper()
	var token struct{ Status struct{ Token string } }
	if err := json.Unmarshal(r.must("POST", "/api/v1/namespaces/fairlead-system/serviceaccounts/fairlead-agent/token",
		`{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": `+spec+`}`), &token); err != nil {
		r.t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(r.config)
	config.BearerToken = token.Status.Token
	config.QPS = -1
	return newReal(r.t, config)
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// running runs a writer as the agent of node until the test ends, or stop.
func running(t *testing.T, agent real, node string) (s *APIServer, stop func()) {
	t.Helper()
	s, err := NewAPIServer(agent.config, node, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return s, stop
}

// realReport is what the agent of node says.
func realReport(node string) Report {
	r := report(metav1.ConditionTrue)
	r.Node.Name = node
	r.Node.Status.Version, r.Node.Status.MoreProblems = "v1", 3
	r.Node.Status.Problems = []v1alpha1.Problem{{Object: "AgentConfig default", Reason: "wrong"}}
	r.Node.Status.Capabilities = []v1alpha1.Capability{{Name: "FullyRandomPorts", Reason: "not there"}}
	r.Node.Status.Counters = v1alpha1.Counters{Peers: 4, SNATPortUsePercent: 5}
	r.Network = Network{State: NetworkWorks, Message: "works"}
	return r
}

// settled reports whether there is nothing to write for now.
func (s *APIServer) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.report.have != nil && s.report.counted() && !s.network.look.IsZero() && s.network.settled()
	s.objects(func(o object) { done = done && (o.due().IsZero() || o.due().After(time.Now())) })
	return done
}

// isTold compares what is in the cluster with r.
func isTold(t *testing.T, admin real, s *APIServer, r Report) {
	t.Helper()
	var n v1alpha1.FairleadNode
	admin.get("/apis/fairlead.dev/v1alpha1/fairleadnodes/status1", &n)
	if status := since(n.Status, r.Node.Status); !same(status, n.Status) || len(n.OwnerReferences) != 1 {
		t.Errorf("the FairleadNode is %+v", n)
	}
	if c := conditionsOf(admin, "status1"); c != "Other=True NetworkUnavailable=False" {
		t.Errorf("conditions of the Node: %s", c)
	}
	if a := annotationsOf(admin, "annotated"); a != "example.com/other=stays fairlead.dev/test=1 nodeportlocal.antrea.io=[]" {
		t.Errorf("annotations of the pod: %s", a)
	}
	for _, reason := range reasons {
		for _, k := range []string{"FairleadNode", "Node", "Pod", "Event"} {
			if n := testutil.ToFloat64(s.metrics.failures.WithLabelValues(k, reason)); n > 0 {
				t.Errorf("%v failures of %s: %s", n, k, reason)
			}
		}
	}
}

func TestAnAPIServerIsTold(t *testing.T) {
	admin := administrator(t)
	admin.makeNode("status1")
	admin.must("PATCH", realNode+"status1/status", `{"status": {"conditions": [{"type": "Other", "status": "True"}]}}`)
	uid := admin.makePod("default", "annotated", "status1")
	agent := admin.agentOf("status1")
	s, stop := running(t, agent, "status1")
	r := realReport("status1")
	pod := &Pod{Namespace: "default", Name: "annotated", UID: uid, Annotations: map[string]string{"fairlead.dev/test": "1", "nodeportlocal.antrea.io": "[]"}}
	r.Pods = listed(pod, &Pod{Namespace: "default", Name: "gone", UID: "1", Annotations: map[string]string{"fairlead.dev/test": "1"}})
	s.Report(r)
	e := happened("status1.1", 1)
	e.InvolvedObject = corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: "status1", UID: "status1"}
	e.Source, e.Type, e.Reason = corev1.EventSource{Component: Component, Host: "status1"}, "Warning", "Test"
	e.ReportingController, e.ReportingInstance = Component, "status1"
	t.Cleanup(func() { admin.remove("/api/v1/namespaces/default/events/" + e.Name) })
	s.Events([]corev1.Event{e})
	all := func() bool { return s.settled() }
	eventually(t, "all is written", all)

	isTold(t, admin, s, r)
	stop()

	// The next agent writes what is new, and takes back what is no longer said.
	s, _ = running(t, agent, "status1")
	r.Pods = listed(pod)
	s.Report(r)
	e.Count = 1
	s.Events([]corev1.Event{e})
	eventually(t, "the next agent knows all", all)
	if n := testutil.ToFloat64(s.metrics.writes.WithLabelValues("FairleadNode")) + testutil.ToFloat64(s.metrics.writes.WithLabelValues("Node")); n != 0 {
		t.Errorf("the next agent wrote %v times", n)
	}
	var again corev1.Event
	if admin.get("/api/v1/namespaces/default/events/status1.1", &again); again.Count != 2 {
		t.Errorf("the event happened %d times", again.Count)
	}
	r.Pods, r.Network.State = listed(), NetworkNotOurs
	s.Report(r)
	eventually(t, "the annotations are taken back", func() bool { return annotationsOf(admin, "annotated") == "example.com/other=stays" })
	eventually(t, "the condition is taken back", func() bool { return conditionsOf(admin, "status1") == "Other=True" })
	admin.must("DELETE", realNode+"status1", "")
	eventually(t, "the FairleadNode goes with its Node", func() bool {
		_, err := admin.ask("GET", "/apis/fairlead.dev/v1alpha1/fairleadnodes/status1", "")
		return apierrors.IsNotFound(err)
	})
}

// Another pod took the name of the one that is meant.
func TestAPodOfTheSameNameThatIsAnotherIsLeftAlone(t *testing.T) {
	admin := administrator(t)
	admin.makeNode("status2")
	admin.makePod("default", "recycled", "status2")
	s, _ := running(t, admin.agentOf("status2"), "status2")
	r := realReport("status2")
	pod := &Pod{Namespace: "default", Name: "recycled", UID: "b7f1c5a2-0000-4000-8000-000000000000", Annotations: map[string]string{"fairlead.dev/test": "1"}}
	r.Pods = listed(pod)
	s.Report(r)
	eventually(t, "the pod is given up", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !s.pods[pod.UID].look.IsZero()
	})
	if a := annotationsOf(admin, "recycled"); a != "example.com/other=stays" {
		t.Errorf("annotations: %s", a)
	}
}

func conditionsOf(r real, node string) string {
	r.t.Helper()
	var n corev1.Node
	r.get(realNode+node, &n)
	var out []string
	for _, c := range n.Status.Conditions {
		if c.Type == "Other" || c.Type == "NetworkUnavailable" {
			out = append(out, fmt.Sprintf("%s=%s", c.Type, c.Status))
		}
	}
	return strings.Join(out, " ")
}

func annotationsOf(r real, pod string) string {
	r.t.Helper()
	var p corev1.Pod
	r.get("/api/v1/namespaces/default/pods/"+pod, &p)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(p.Annotations)) {
		out = append(out, k+"="+p.Annotations[k])
	}
	return strings.Join(out, " ")
}

// An agent with the rights that the manifests give it renews its Lease, which goes
// with its Node.
func TestAnAgentRenewsItsLeaseInARealCluster(t *testing.T) {
	admin := administrator(t)
	admin.makeNode("beats1")
	t.Cleanup(func() { admin.remove(leases + "/agent-beats1") })
	agent := admin.agentOf("beats1")
	s, err := NewAPIServer(agent.config, "beats1", slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Beat(agent.config, "fairlead-system"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	defer func() { stop(); <-ended }()
	s.Report(realReport("beats1"))
	var first, lease coordinationv1.Lease
	var node corev1.Node
	admin.get(realNode+"beats1", &node)
	there := func(l *coordinationv1.Lease) bool {
		s.Report(realReport("beats1")) // as with every turn
		content, err := admin.ask("GET", leases+"/agent-beats1", "")
		return err == nil && json.Unmarshal(content, l) == nil && l.Spec.RenewTime != nil
	}
	eventually(t, "the Lease is made", func() bool { return there(&first) })
	eventually(t, "it is renewed", func() bool { return there(&lease) && !lease.Spec.RenewTime.Equal(first.Spec.RenewTime) })
	if o := lease.OwnerReferences; len(o) != 1 || o[0].UID != node.UID || *lease.Spec.LeaseDurationSeconds != 40 {
		t.Errorf("%+v", lease)
	}
}
