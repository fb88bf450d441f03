package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"fairlead.dev/fairlead/internal/kube"
)

// A server speaks as much of the Kubernetes API as listing and watching takes. What
// it says is what kube-apiserver says; that itself is asked in e2e.
type server struct {
	t       *testing.T
	address string

	mu       sync.Mutex
	http     *http.Server
	version  int
	floor    int // events up to this version are forgotten
	objects  map[string]map[string]metav1.Object
	events   []event
	grown    chan struct{}  // closed when there is another event
	refuses  map[string]int // by resource: the status that it answers with
	old      bool           // it streams no lists, and sends JSON only
	requests map[string]int // by resource
}

type event struct {
	version  int
	resource string
	text     []byte
}

func newServer(t *testing.T) *server {
	s := &server{t: t, address: "127.0.0.1:0", objects: map[string]map[string]metav1.Object{}, grown: make(chan struct{}),
		refuses: map[string]int{}, requests: map[string]int{}}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = l.Addr().String()
	h := &http.Server{Handler: http.HandlerFunc(s.serve)}
	s.mu.Lock()
	s.http = h
	s.mu.Unlock()
	go func() { _ = h.Serve(l) }() // ends when it is closed
}

// stop ends the server and every connection to it.
func (s *server) stop() {
	s.mu.Lock()
	h := s.http
	s.mu.Unlock()
	h.Close()
}

// cut ends every watch there is.
func (s *server) cut() {
	s.stop()
	s.start()
}

// refuse makes the server answer requests for a resource with a status; 0: no more.
func (s *server) refuse(resource string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses[resource] = status
}

// put makes o one of the objects, as new or changed.
func (s *server) put(resource string, o metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.objects[resource]
	if all == nil {
		all = map[string]metav1.Object{}
		s.objects[resource] = all
	}
	name, kind := o.GetNamespace()+"/"+o.GetName(), "ADDED"
	if all[name] != nil {
		kind = "MODIFIED"
	}
	all[name] = o
	s.tell(kind, resource, o)
}

func (s *server) remove(resource string, o metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects[resource], o.GetNamespace()+"/"+o.GetName())
	s.tell("DELETED", resource, o)
}

// forget makes every version before this one too old to watch from.
func (s *server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version += 10
	s.floor = s.version
}

func (s *server) tell(kind, resource string, o metav1.Object) {
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	o.(schema.ObjectKind).SetGroupVersionKind(schema.FromAPIVersionAndKind(kinds[resource][0], kinds[resource][1]))
	s.events = append(s.events, event{s.version, resource, s.event(kind, o)})
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *server) event(kind string, o any) []byte {
	text, err := json.Marshal(map[string]any{"type": kind, "object": o})
	if err != nil {
		panic(err)
	}
	return append(text, '\n')
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	resource := path.Base(r.URL.Path)
	s.requests[resource]++
	status, old := s.refuses[resource], s.old
	s.mu.Unlock()
	q := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case status != 0:
		refused(w, status, resource)
	case q.Get("watch") != "true":
		s.list(w, r, resource)
	case old && q.Get("sendInitialEvents") == "true":
		refused(w, http.StatusUnprocessableEntity, resource)
	default:
		s.watch(w, r, resource)
	}
}

func refused(w http.ResponseWriter, status int, resource string) {
	w.WriteHeader(status)
	reason := map[int]metav1.StatusReason{403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound,
		410: metav1.StatusReasonExpired, 422: metav1.StatusReasonInvalid}[status]
	_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status: metav1.StatusFailure, Code: int32(status), Reason: reason, Message: fmt.Sprintf("%s: %d", resource, status)})
}

func (s *server) list(w http.ResponseWriter, r *http.Request, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gvk := schema.FromAPIVersionAndKind(kinds[resource][0], kinds[resource][1]+"List")
	list, err := kube.Scheme().New(gvk)
	if err != nil {
		panic(err)
	}
	var items []runtime.Object
	for _, o := range s.objects[resource] {
		if selected(r, o) {
			items = append(items, o.(runtime.Object))
		}
	}
	if err := meta.SetList(list, items); err != nil {
		panic(err)
	}
	list.GetObjectKind().SetGroupVersionKind(gvk)
	list.(metav1.ListInterface).SetResourceVersion(strconv.Itoa(s.version))
	if s.old || !strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	_ = protobuf.NewSerializer(kube.Scheme(), kube.Scheme()).Encode(list, w)
}

// selected reports whether a request is about an object.
func selected(r *http.Request, o metav1.Object) bool {
	p, ok := o.(*corev1.Pod)
	return !ok || strings.HasSuffix("spec.nodeName="+p.Spec.NodeName, r.URL.Query().Get("fieldSelector"))
}

// kinds are API version and kind by resource.
var kinds = map[string][2]string{
	"nodes": {"v1", "Node"}, "pods": {"v1", "Pod"}, "namespaces": {"v1", "Namespace"}, "services": {"v1", "Service"},
	"agentconfigs": {"fairlead.dev/v1alpha1", "AgentConfig"}, "fairleadnodes": {"fairlead.dev/v1alpha1", "FairleadNode"},
	"egresses": {"fairlead.dev/v1alpha1", "Egress"},
}

// watch tells what happens after a version; before that, if all is asked for, what
// there is.
func (s *server) watch(w http.ResponseWriter, r *http.Request, resource string) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	all := r.URL.Query().Get("sendInitialEvents") == "true"
	s.mu.Lock()
	if !all && from < s.floor {
		s.mu.Unlock()
		refused(w, http.StatusGone, resource)
		return
	}
	var out [][]byte
	if all {
		from = s.version
		for _, o := range s.objects[resource] {
			if selected(r, o) {
				out = append(out, s.event("ADDED", o))
			}
		}
		out = append(out, s.event("BOOKMARK", map[string]any{"kind": kinds[resource][1], "apiVersion": kinds[resource][0],
			"metadata": map[string]any{"resourceVersion": strconv.Itoa(from), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}))
	}
	for {
		for _, e := range s.events {
			if e.version > from {
				from = e.version
				if e.resource == resource {
					out = append(out, e.text)
				}
			}
		}
		grown := s.grown
		s.mu.Unlock()
		if _, err := w.Write(slices.Concat(out...)); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		out = nil
		select {
		case <-r.Context().Done():
			return
		case <-grown:
		}
		s.mu.Lock()
	}
}
