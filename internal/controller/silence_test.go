package controller

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
)

func lease(name string, renewed time.Time, seconds int32) *coordinationv1.Lease {
	at := metav1.NewMicroTime(renewed)
	return &coordinationv1.Lease{TypeMeta: metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "fairlead-system"},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &at, LeaseDurationSeconds: &seconds}}
}

// names are the nodes whose agents are silent.
func (e *ear) names() string {
	var out []string
	_, news := e.silent()
	for _, s := range news {
		out = append(out, s.Node)
	}
	return strings.Join(out, " ")
}

// oursComes has our own Lease come for so long.
func oursComes(e *ear, long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(retryTime) {
		e.hear(lease(Component, time.Now(), 15))
	}
}

var silences = []struct {
	name, want string
	happens    func(e *ear)
}{
	{"long ago by its own clock, and new to us", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now().Add(-time.Hour), 40))
		oursComes(e, 30*time.Second)
	}},
	{"not renewed", "a", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		oursComes(e, 50*time.Second)
	}},
	{"one of two", "b", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		e.hear(lease("agent-b", time.Now(), 40))
		oursComes(e, 30*time.Second)
		e.hear(lease("agent-a", time.Now(), 40))
		oursComes(e, 20*time.Second)
	}},
	{"it comes again and again, and says nothing new", "a", func(e *ear) {
		l := lease("agent-a", time.Now(), 40)
		for range 30 {
			e.hear(l)
			time.Sleep(2 * time.Second)
		}
	}},
	{"many nodes, and so seldom", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 200))
		oursComes(e, 150*time.Second)
	}},
	{"nothing is seen at all", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		time.Sleep(time.Hour)
	}},
	{"nothing was seen for long", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		time.Sleep(time.Hour)
		oursComes(e, 30*time.Second)
	}},
	{"seen again for long enough", "a", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		time.Sleep(time.Hour)
		oursComes(e, 50*time.Second)
	}},
	{"its Lease went with its Node", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		oursComes(e, 20*time.Second)
		e.gone("agent-a")
		oursComes(e, 50*time.Second)
	}},
	{"another leader began", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		oursComes(e, 20*time.Second)
		e.forget()
		e.hear(lease("agent-a", time.Now().Add(-20*time.Second), 40))
		oursComes(e, 30*time.Second)
	}},
	{"it is written down", "", func(e *ear) {
		e.hear(lease("agent-a", time.Now(), 40))
		oursComes(e, 50*time.Second)
		_, news := e.silent()
		e.wrote(news[0])
	}},
	{"no agent's", "", func(e *ear) {
		e.hear(lease("somebody", time.Now(), 40))
		oursComes(e, time.Minute)
	}},
}

// An agent is silent once its Lease has not changed before our eyes for as long as it
// may last, and we were looking all the while.
func TestOnlyWhoIsListenedToIsSilent(t *testing.T) {
	for _, tt := range silences {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEar()
				tt.happens(e)
				if got := e.names(); got != tt.want {
					t.Errorf("silent are %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// oneNode is an API server that has the objects of node n1.
type oneNode struct {
	lease  *coordinationv1.Lease
	node   *corev1.Node
	report *v1alpha1.FairleadNode
	writes map[string]map[string]any // by path and query
}

func (a *oneNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPatch {
		body, _ := io.ReadAll(r.Body)
		var v map[string]any
		if err := json.Unmarshal(body, &v); err != nil {
			panic(err)
		}
		a.writes[r.URL.Path+"?"+r.URL.RawQuery] = v
		_, _ = w.Write(body)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"leases": a.lease, "nodes": a.node, "fairleadnodes": a.report}[path.Base(path.Dir(r.URL.Path))])
}

func unavailable(status corev1.ConditionStatus, reason string) []corev1.NodeCondition {
	return []corev1.NodeCondition{{Type: "Ready", Status: "True"}, {Type: corev1.NodeNetworkUnavailable, Status: status, Reason: reason}}
}

var doubts = []struct {
	name         string
	conditions   []corev1.NodeCondition
	later        time.Duration // was the Lease renewed than was heard
	node, report bool          // are written
}{
	{"it said that all is well", unavailable("False", "FairleadReady"), 0, true, true},
	{"it is known to be broken", unavailable("True", "FairleadNotReady"), 0, false, true},
	{"another network's", unavailable("False", "RouteCreated"), 0, false, true},
	{"it is there already", unavailable("Unknown", "FairleadSilent"), 0, false, true},
	{"none", nil, 0, false, true},
	{"it is heard of again", unavailable("False", "FairleadReady"), time.Minute, false, false},
}

// What a silent agent said is doubted in its own name, and nothing else is.
func TestWhatASilentAgentSaidIsDoubted(t *testing.T) {
	heard := time.Now().Truncate(time.Microsecond)
	for _, tt := range doubts {
		t.Run(tt.name, func(t *testing.T) {
			a := &oneNode{lease: lease("agent-n1", heard.Add(tt.later), 40), writes: map[string]map[string]any{},
				node:   &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1", ResourceVersion: "7"}, Status: corev1.NodeStatus{Conditions: tt.conditions}},
				report: reportOf("n1", 1, problem("AgentConfig default", "a", "is wrong"))}
			a.report.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "FairleadNode"}
			a.report.ResourceVersion = "8"
			a.report.Status.Problems = []v1alpha1.Problem{{Object: "AgentConfig default", Field: "spec.a", Reason: "is wrong"}}
			a.report.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Applied"}, {Type: "Other", Status: "True", Reason: "Other"}}
			server := httptest.NewServer(a)
			defer server.Close()
			s, err := newAPIServer(&rest.Config{Host: server.URL, QPS: -1}, "fairlead-system", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Doubt(t.Context(), Silence{"n1", metav1.NewMicroTime(heard), 40 * time.Second}); err != nil {
				t.Fatal(err)
			}
			const as = "/status?fieldManager=fairlead-agent&force=true&timeout=5s"
			node, wrote := a.writes["/api/v1/nodes/n1"+as]
			if wrote != tt.node {
				t.Errorf("the Node is written %t: %v", wrote, a.writes)
			}
			if tt.node {
				said, err := json.Marshal(node)
				if err != nil || !strings.Contains(string(said), `"Unknown"`) || !strings.Contains(string(said), "FairleadSilent") ||
					!strings.Contains(string(said), `"resourceVersion":"7"`) || strings.Contains(string(said), `"Ready"`) {
					t.Errorf("%s", said)
				}
			}
			text, err := json.Marshal(a.writes["/apis/fairlead.dev/v1alpha1/fairleadnodes/n1"+as])
			if err != nil {
				t.Fatal(err)
			}
			var told v1alpha1.FairleadNode
			if err := json.Unmarshal(text, &told); err != nil {
				t.Fatal(err)
			}
			if tt.report {
				ready := meta.FindStatusCondition(told.Status.Conditions, "Ready")
				if ready == nil || ready.Status != metav1.ConditionUnknown || ready.Reason != "AgentSilent" || len(told.Status.Conditions) != 2 ||
					len(told.Status.Problems) != 1 || len(told.Status.ObjectReports) != 2 || told.ResourceVersion != "8" {
					t.Errorf("%s", text)
				}
			} else if len(a.writes) > 0 {
				t.Errorf("%v is written", a.writes)
			}
		})
	}
}
