package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// apiFake speaks as much of the Kubernetes API as the controller needs for one
// AgentConfig. The API itself is asked in e2e.
type apiFake struct {
	mu      sync.Mutex
	config  *v1alpha1.AgentConfig
	reports []v1alpha1.FairleadNode
	grown   chan struct{} // closed when there is news
	patches []string
}

func (a *apiFake) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.grown)
	a.grown = make(chan struct{})
}

func (a *apiFake) lists(resource string) any {
	head := metav1.ListMeta{ResourceVersion: "1"}
	kind := func(k, version string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: version, Kind: k} }
	switch resource {
	case "nodes":
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
		return &corev1.NodeList{TypeMeta: kind("NodeList", "v1"), ListMeta: head, Items: []corev1.Node{n}}
	case "leases":
		return &coordinationv1.LeaseList{TypeMeta: kind("LeaseList", "coordination.k8s.io/v1"), ListMeta: head}
	case "agentconfigs":
		return &v1alpha1.AgentConfigList{TypeMeta: kind("AgentConfigList", v1alpha1.APIVersion), ListMeta: head, Items: []v1alpha1.AgentConfig{*a.config}}
	}
	return &v1alpha1.FairleadNodeList{TypeMeta: kind("FairleadNodeList", v1alpha1.APIVersion), ListMeta: head, Items: a.reports}
}

func (a *apiFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	a.mu.Lock()
	grown := a.grown
	defer a.mu.Unlock()
	switch query := r.URL.Query(); {
	case r.Method == http.MethodPatch:
		a.patch(w, r)
	case query.Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity) // as servers without streamed lists
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity})
	case query.Get("watch") != "": // ends with the next news: the list is asked for again
		a.mu.Unlock()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-grown:
		case <-r.Context().Done():
		}
		a.mu.Lock()
		_ = json.NewEncoder(w).Encode(metav1.WatchEvent{Type: "ERROR", Object: runtime.RawExtension{Raw: []byte(`{"kind":"Status","apiVersion":"v1","code":410,"reason":"Expired"}`)}})
	default:
		_ = json.NewEncoder(w).Encode(a.lists(path.Base(r.URL.Path)))
	}
}

// patch takes in the conditions, as the object's own.
func (a *apiFake) patch(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	sent := &v1alpha1.AgentConfig{}
	if err := json.Unmarshal(body, sent); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.patches = append(a.patches, fmt.Sprintf("%s %s %s", r.URL.Path, r.URL.RawQuery, sent.UID))
	next := a.config.DeepCopy()
	for _, c := range sent.Status.Conditions {
		meta.SetStatusCondition(&next.Status.Conditions, c)
	}
	a.config = next
	close(a.grown)
	a.grown = make(chan struct{})
	_ = json.NewEncoder(w).Encode(next)
}

func TestConditionsOfAnAPIServer(t *testing.T) {
	fake := &apiFake{grown: make(chan struct{}), config: config("default", 1)}
	fake.config.UID = "u1"
	server := httptest.NewServer(fake)
	defer server.Close()
	store, err := newAPIServer(&rest.Config{Host: server.URL, QPS: -1}, "fairlead-system", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Read(); err == nil || !strings.Contains(err.Error(), "agentconfigs: no answer yet") {
		t.Errorf("error %v", err)
	}
	l := newLoop(slog.New(slog.DiscardHandler), func(error) {})
	l.store = store
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.run(ctx) }()
	await := func(reason string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			fake.mu.Lock()
			has := meta.FindStatusCondition(fake.config.Status.Conditions, v1alpha1.ConditionAccepted)
			fake.mu.Unlock()
			if has != nil && has.Reason == reason {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, want %s", has, reason)
			}
		}
	}
	fake.change(func() { fake.reports = []v1alpha1.FairleadNode{*reportOf("n1", 1)} })
	await("Accepted")
	fake.change(func() {
		fake.reports = []v1alpha1.FairleadNode{*reportOf("n1", 1, problem("AgentConfig default", "a", "is wrong"))}
	})
	await("Problems")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	for _, p := range fake.patches {
		if p != "/apis/fairlead.dev/v1alpha1/agentconfigs/default/status fieldManager=fairlead-controller&force=true&timeout=5s u1" {
			t.Error(p)
		}
	}
	if len(fake.patches) != 2 {
		t.Errorf("%d writes", len(fake.patches))
	}
}
