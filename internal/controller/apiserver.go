package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/kube"
)

// Component names the controller: as the field manager of what it writes, and as
// its Lease.
const Component = "fairlead-controller"

var ours = schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version}

// An apiServer is the store of a cluster that has one. It asks for nothing before
// it is watched.
type apiServer struct {
	host    string
	log     *slog.Logger
	client  rest.Interface // of our kinds
	nodes   *kept[*corev1.Node]
	configs *kept[*v1alpha1.AgentConfig]
	egress  *kept[*v1alpha1.Egress]
	reports *kept[*v1alpha1.FairleadNode]
	leases  *kept[*coordinationv1.Lease] // of agents, and our own
	ear     *ear

	namespace string // of Leases

	mu      sync.Mutex // guards what is below, and what is kept
	changed func()
}

func newAPIServer(config *rest.Config, namespace string, log *slog.Logger) (*apiServer, error) {
	core, err := kube.Client(config, corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	leases, err := kube.Client(config, coordinationv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	s := &apiServer{host: config.Host, log: log, namespace: namespace, ear: newEar(), changed: func() {}}
	if s.client, err = kube.Client(config, ours); err != nil {
		return nil, err
	}
	s.nodes = &kept[*corev1.Node]{store: s, client: core, resource: "nodes", strip: stripNode}
	s.configs = &kept[*v1alpha1.AgentConfig]{store: s, client: s.client, resource: configs, strip: func(c *v1alpha1.AgentConfig) *v1alpha1.AgentConfig {
		return &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: c.Name, UID: c.UID, Generation: c.Generation}, Spec: c.Spec, Status: c.Status}
	}}
	s.egress = &kept[*v1alpha1.Egress]{store: s, client: s.client, resource: egresses, optional: true, strip: func(e *v1alpha1.Egress) *v1alpha1.Egress {
		m := metav1.ObjectMeta{Name: e.Name, UID: e.UID, Generation: e.Generation, CreationTimestamp: e.CreationTimestamp, ResourceVersion: e.ResourceVersion}
		return &v1alpha1.Egress{ObjectMeta: m, Spec: v1alpha1.EgressSpec{EgressIPs: e.Spec.EgressIPs}, Status: e.Status}
	}}
	s.leases = &kept[*coordinationv1.Lease]{store: s, client: leases, namespace: namespace, resource: "leases", hear: s.ear, strip: func(l *coordinationv1.Lease) *coordinationv1.Lease {
		return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: l.Name}, Spec: coordinationv1.LeaseSpec{RenewTime: l.Spec.RenewTime, LeaseDurationSeconds: l.Spec.LeaseDurationSeconds}}
	}}
	s.reports = &kept[*v1alpha1.FairleadNode]{store: s, client: s.client, resource: "fairleadnodes", strip: stripReport}
	return s, nil
}

// stripReport leaves of a report what the controller goes by: what it says of other
// objects, and whether anybody answers for it.
func stripReport(r *v1alpha1.FairleadNode) *v1alpha1.FairleadNode {
	out := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: r.Name}}
	out.Status.ObjectReports = r.Status.ObjectReports
	if isSilent(r) {
		out.Status.Conditions = []metav1.Condition{{Type: ready, Status: metav1.ConditionUnknown}}
	}
	return out
}

// Read returns what the API server last told.
func (s *apiServer) Read() (*Cluster, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing := s.missing(); len(missing) > 0 {
		return nil, fmt.Errorf("waiting for the API server %s: %s", s.host, strings.Join(missing, "; "))
	}
	c := &Cluster{Nodes: maps.Clone(s.nodes.all)}
	for _, config := range s.configs.all {
		c.Objects = append(c.Objects, ofConfig(config))
	}
	for _, e := range s.egress.all {
		c.Objects = append(c.Objects, ofEgress(e))
	}
	for _, report := range s.reports.all {
		c.Reports = append(c.Reports, report)
	}
	return c, nil
}

// missing says what the API server has not told yet. The caller holds the lock.
func (s *apiServer) missing() []string {
	return slices.Concat(s.nodes.missing(), s.configs.missing(), s.egress.missing(), s.reports.missing())
}

// announce tells that there is news, once there is something to be made of it. The
// caller holds the lock.
func (s *apiServer) announce() {
	if len(s.missing()) == 0 {
		s.changed()
	}
}

// Watch keeps what Read returns up to date.
func (s *apiServer) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.changed = changed
	s.nodes.all, s.configs.all, s.reports.all = nil, nil, nil // what was known when this last led
	s.egress.all, s.leases.all = nil, nil
	s.mu.Unlock()
	s.ear.forget()
	var running sync.WaitGroup
	running.Go(func() { s.leases.run(ctx) })
	running.Go(func() { s.nodes.run(ctx) })
	running.Go(func() { s.configs.run(ctx) })
	running.Go(func() { s.egress.run(ctx) })
	running.Go(func() { s.reports.run(ctx) })
	running.Wait()
	return nil
}

// Write makes the conditions ours, and as they should be, beside those that others
// write. It fails on an object that has been made anew since. Addresses follow from what
// their Egress showed: they are written to that one, and no other.
func (s *apiServer) Write(ctx context.Context, o Object, next Status) error {
	metadata, status := map[string]any{"name": o.GetName(), "uid": o.GetUID()}, map[string]any{"conditions": next.Conditions}
	if o.Resource == egresses {
		metadata["resourceVersion"] = o.GetResourceVersion()
		if len(next.Addresses) > 0 {
			status["addresses"] = next.Addresses
		}
	}
	body, err := json.Marshal(map[string]any{"apiVersion": v1alpha1.APIVersion, "kind": o.Kind, "metadata": metadata, "status": status})
	if err != nil {
		return err
	}
	err = s.client.Patch(types.ApplyPatchType).Resource(o.Resource).Name(o.GetName()).SubResource("status").
		Param("fieldManager", Component).Param("force", "true").Body(body).MaxRetries(0).Timeout(requestTime).Do(ctx).Error()
	switch {
	case apierrors.IsConflict(err):
		return fmt.Errorf("write status of %s: it changed in between: %w", o, err)
	case err != nil:
		return fmt.Errorf("write status of %s: %w", o, err)
	}
	return nil
}

// An object is one that has a name.
type object interface {
	runtime.Object
	metav1.Object
}

// kept is the objects of one kind, less what does not count. It is the store of
// the reflector that keeps them up to date. The lock of its apiServer guards it.
type kept[T object] struct {
	store    *apiServer
	client   rest.Interface
	resource string
	strip    func(T) T
	optional bool // an API server that does not know them has none
	all      map[string]T
	err      error // of the last request

	namespace string // "": they are in none
	// hear, where it is not nil, has each of them told as it comes; then there is
	// nothing to be made of them at once.
	hear *ear
}

func (k *kept[T]) missing() []string {
	switch {
	case k.all != nil || k.optional && apierrors.IsNotFound(k.err):
		return nil
	case k.err != nil:
		return []string{fmt.Sprintf("%s: %s", k.resource, k.err)}
	}
	return []string{k.resource + ": no answer yet"}
}

// How soon a request that failed is made again.
var backoff = wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Cap: 20 * time.Second, Steps: 100}

func (k *kept[T]) run(ctx context.Context) {
	var quiet klog.Logger // what the reflector has to say is in the errors of requests
	again := backoff
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			all, err := k.request(options).Do(ctx).Get()
			k.answered(ctx, err)
			return all, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.Watch = true
			stream, err := k.request(options).Watch(ctx)
			k.answered(ctx, err)
			return stream, err
		},
	}
	r := cache.NewReflectorWithOptions(lw, nil, k, cache.ReflectorOptions{Logger: &quiet, Name: k.resource, TypeDescription: k.resource, Backoff: &again})
	r.RunWithContext(klog.NewContext(ctx, quiet))
}

func (k *kept[T]) request(options metav1.ListOptions) *rest.Request {
	return k.client.Get().Namespace(k.namespace).Resource(k.resource).VersionedParams(&options, metav1.ParameterCodec)
}

// answered notes how a request went, and logs what is new about that.
func (k *kept[T]) answered(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	if err != nil && (k.err == nil || k.err.Error() != err.Error()) {
		k.store.log.Warn("the API server does not answer properly; using the last known objects", "resource", k.resource, "error", err)
	}
	k.err = err
}

// Transformer lets the reflector drop what does not count while objects come in.
func (k *kept[T]) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		v, ok := o.(T)
		if !ok {
			return nil, fmt.Errorf("%T among %s", o, k.resource)
		}
		return k.strip(v), nil
	}
}

// Add takes in an object that is new, or was there when the watch began.
func (k *kept[T]) Add(o any) error { return k.Update(o) }

// Update takes in an object.
func (k *kept[T]) Update(o any) error {
	v, ok := o.(T)
	if !ok {
		return fmt.Errorf("%T among %s", o, k.resource)
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	if news := k.put(k.all, v); k.tells(v) && news {
		k.store.announce()
	}
	return nil
}

// tells tells who listens, and reports whether anybody else does.
func (k *kept[T]) tells(v T) bool {
	if l, ok := any(v).(*coordinationv1.Lease); ok && k.hear != nil {
		k.hear.hear(l)
	}
	return k.hear == nil
}

// put puts v into all, unless what counts is there already, and reports whether it
// is news.
func (k *kept[T]) put(all map[string]T, v T) bool {
	v = k.strip(v)
	if old, there := k.all[v.GetName()]; there && equality.Semantic.DeepEqual(old, v) {
		all[v.GetName()] = old
		return false
	}
	all[v.GetName()] = v
	return true
}

// Delete takes out an object.
func (k *kept[T]) Delete(o any) error {
	m, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	delete(k.all, m.GetName())
	if k.hear != nil {
		k.hear.gone(m.GetName())
		return nil
	}
	k.store.announce()
	return nil
}

// Replace takes in all objects that there are.
func (k *kept[T]) Replace(all []any, _ string) error {
	k.store.mu.Lock()
	defer k.store.mu.Unlock()
	next := make(map[string]T, len(all))
	for _, o := range all {
		v, ok := o.(T)
		if !ok {
			return fmt.Errorf("%T among %s", o, k.resource)
		}
		k.put(next, v)
		k.tells(v)
	}
	for name := range k.all {
		if _, there := next[name]; !there && k.hear != nil {
			k.hear.gone(name)
		}
	}
	k.all, k.err = next, nil
	if k.hear == nil {
		k.store.announce()
	}
	return nil
}

// Resync has nothing to do: everything is looked at again in any case.
func (*kept[T]) Resync() error { return nil }
