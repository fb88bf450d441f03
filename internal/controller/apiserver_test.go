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
// AgentConfig and one Egress. The API itself is asked in e2e.
type apiFake struct {
	mu      sync.Mutex
	config  *v1alpha1.AgentConfig
	egress  *v1alpha1.Egress // nil: the kind is not known
	node    *corev1.Node
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
		return &corev1.NodeList{TypeMeta: kind("NodeList", "v1"), ListMeta: head, Items: []corev1.Node{*a.node}}
	case "egresses":
		return &v1alpha1.EgressList{TypeMeta: kind("EgressList", v1alpha1.APIVersion), ListMeta: head, Items: []v1alpha1.Egress{*a.egress}}
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
	case path.Base(r.URL.Path) == "egresses" && a.egress == nil:
		refuse(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/egresses/"):
		a.patchEgress(w, r)
	case r.Method == http.MethodPatch:
		a.patch(w, r)
	case query.Get("sendInitialEvents") != "":
		refuse(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid) // as servers without streamed lists
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

func refuse(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: reason, Code: int32(code)})
}

// patchEgress takes in the status, where it is about the Egress as it is now.
func (a *apiFake) patchEgress(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	sent := &v1alpha1.Egress{}
	if err := json.Unmarshal(body, sent); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.patches = append(a.patches, fmt.Sprintf("%s %s %s", r.URL.Path, r.URL.RawQuery, sent.UID))
	if sent.ResourceVersion != a.egress.ResourceVersion {
		refuse(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	next := a.egress.DeepCopy()
	next.ResourceVersion += "1"
	next.Status = sent.Status
	a.egress = next
	close(a.grown)
	a.grown = make(chan struct{})
	_ = json.NewEncoder(w).Encode(next)
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
	fake := &apiFake{grown: make(chan struct{}), config: config("default", 1), node: host(1)}
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

// An Egress gets its status, also one that changes while it is written.
func TestStatusOfAnEgressOfAnAPIServer(t *testing.T) {
	fake := &apiFake{grown: make(chan struct{}), config: config("default", 1), node: host(1), egress: egress("x", 5, "198.51.100.7")}
	fake.egress.UID, fake.egress.ResourceVersion = "u2", "7"
	server := httptest.NewServer(fake)
	defer server.Close()
	store, err := newAPIServer(&rest.Config{Host: server.URL, QPS: -1}, "fairlead-system", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(slog.New(slog.DiscardHandler), func(error) {})
	l.store = store
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.run(ctx) }()
	await := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			fake.mu.Lock()
			status := fake.egress.Status
			fake.mu.Unlock()
			var has []string
			for _, a := range status.Addresses {
				has = append(has, a.IP+"@"+a.Node)
			}
			if strings.Join(has, " ") == want && meta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionAssigned) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v, want %s", status, want)
			}
		}
	}
	await("198.51.100.7@n1")
	fake.change(func() {
		fake.node = host(2)
		next := fake.egress.DeepCopy()
		next.Spec.EgressIPs, next.ResourceVersion = []string{"198.51.100.7", "2001:db8::7"}, "8"
		fake.egress = next
	})
	await("198.51.100.7@n2 2001:db8::7@n2")
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	for _, p := range fake.patches {
		if p != "/apis/fairlead.dev/v1alpha1/egresses/x/status fieldManager=fairlead-controller&force=true&timeout=5s u2" &&
			p != "/apis/fairlead.dev/v1alpha1/agentconfigs/default/status fieldManager=fairlead-controller&force=true&timeout=5s " {
			t.Error(p)
		}
	}
}

// What follows from an Egress as it was is not written to one that has changed.
func TestAnEgressThatChangedIsNotWritten(t *testing.T) {
	fake := &apiFake{grown: make(chan struct{}), config: config("default", 1), node: host(1), egress: egress("x", 5, "198.51.100.7")}
	fake.egress.ResourceVersion = "8"
	server := httptest.NewServer(fake)
	defer server.Close()
	store, err := newAPIServer(&rest.Config{Host: server.URL, QPS: -1}, "fairlead-system", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	seen := egress("x", 5, "198.51.100.7")
	seen.ResourceVersion = "7"
	err = store.Write(t.Context(), ofEgress(seen), Status{})
	if err == nil || !strings.Contains(err.Error(), "Egress x: it changed in between") || len(fake.egress.Status.Conditions) > 0 {
		t.Errorf("error %v, status %v", err, fake.egress.Status)
	}
}
