package kube

import (
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

var ours = schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version}

// keyOf is the key of an object of the API.
func keyOf(o metav1.Object) world.Key {
	return world.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// named is what counts of an object's metadata where only its name does.
func named(o metav1.ObjectMeta) metav1.ObjectMeta { return metav1.ObjectMeta{Name: o.Name} }

var nodes = form[corev1.Node]{
	kind: "Node", group: corev1.SchemeGroupVersion, resource: "nodes", required: true,
	fresh: func() message { return &corev1.Node{} }, keeps: keepOfNodes,
	key:   func(n *corev1.Node) world.Key { return keyOf(n) },
	equal: func(n, m *corev1.Node) bool { return reflect.DeepEqual(n, m) },
	into:  func(o *source.Objects, all *list[corev1.Node]) { o.Nodes = all.slice() },
	parse: func(o runtime.Object) *corev1.Node { return source.OfNode(o.(*corev1.Node)) },
}

var configs = form[v1alpha1.AgentConfig]{
	kind: "AgentConfig", group: ours, resource: "agentconfigs",
	key:   func(c *v1alpha1.AgentConfig) world.Key { return keyOf(c) },
	equal: func(c, d *v1alpha1.AgentConfig) bool { return reflect.DeepEqual(c, d) },
	into:  func(o *source.Objects, all *list[v1alpha1.AgentConfig]) { o.Configs = all.slice() },
	parse: func(o runtime.Object) *v1alpha1.AgentConfig {
		c := o.(*v1alpha1.AgentConfig)
		out := &v1alpha1.AgentConfig{ObjectMeta: named(c.ObjectMeta), Spec: c.Spec}
		out.Generation = c.Generation // what the agent says of it is about this one
		return out
	},
}

var reports = form[v1alpha1.FairleadNode]{
	kind: "FairleadNode", group: ours, resource: "fairleadnodes",
	key:   func(n *v1alpha1.FairleadNode) world.Key { return keyOf(n) },
	equal: func(n, m *v1alpha1.FairleadNode) bool { return reflect.DeepEqual(n, m) },
	into:  func(o *source.Objects, all *list[v1alpha1.FairleadNode]) { o.Reports = all.slice() },
	parse: func(o runtime.Object) *v1alpha1.FairleadNode { return source.ForOthers(o.(*v1alpha1.FairleadNode)) },
}

var egresses = form[v1alpha1.Egress]{
	kind: "Egress", group: ours, resource: "egresses",
	key:   func(e *v1alpha1.Egress) world.Key { return keyOf(e) },
	equal: func(e, f *v1alpha1.Egress) bool { return reflect.DeepEqual(e, f) },
	into:  func(o *source.Objects, all *list[v1alpha1.Egress]) { o.Egresses = all.slice() },
	parse: func(o runtime.Object) *v1alpha1.Egress { return source.OfEgress(o.(*v1alpha1.Egress)) },
}

// pods are the pods in scope.
func pods(d source.Door, scope world.Scope) form[world.Pod] {
	f := form[world.Pod]{
		kind: "Pod", group: corev1.SchemeGroupVersion, resource: "pods",
		fresh: func() message { return &corev1.Pod{} }, keeps: keepOfPods,
		key:   func(p *world.Pod) world.Key { return p.Key },
		equal: (*world.Pod).Equal,
		into:  func(o *source.Objects, all *list[world.Pod]) { o.Pods = all.all },
		parse: func(o runtime.Object) *world.Pod {
			p, _ := d.Pod(o.(*corev1.Pod)) // the API server has refused what is malformed
			return p
		},
	}
	if scope == world.NodePods {
		f.fields = fields.OneTermEqualSelector("spec.nodeName", d.Node).String()
	}
	return f
}

func namespaces(d source.Door) form[world.Namespace] {
	return form[world.Namespace]{
		kind: "Namespace", group: corev1.SchemeGroupVersion, resource: "namespaces",
		fresh: func() message { return &corev1.Namespace{} },
		key:   func(n *world.Namespace) world.Key { return n.Key },
		equal: (*world.Namespace).Equal,
		into:  func(o *source.Objects, all *list[world.Namespace]) { o.Namespaces = all.slice() },
		parse: func(o runtime.Object) *world.Namespace { return d.Namespace(o.(*corev1.Namespace)) },
	}
}

func services(d source.Door) form[world.Service] {
	return form[world.Service]{
		kind: "Service", group: corev1.SchemeGroupVersion, resource: "services",
		fresh: func() message { return &corev1.Service{} },
		key:   func(s *world.Service) world.Key { return s.Key },
		equal: (*world.Service).Equal,
		into:  func(o *source.Objects, all *list[world.Service]) { o.Services = all.slice() },
		parse: func(o runtime.Object) *world.Service {
			s, _ := d.Service(o.(*corev1.Service)) // the API server has refused what is malformed
			return s
		},
	}
}

// An interner holds strings once that many objects have.
type interner struct {
	mu    sync.Mutex
	known map[string]string
}

// mostInterned bounds what is held of names that are no more.
const mostInterned = 50_000

func (i *interner) of(s string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if known, ok := i.known[s]; ok {
		return known
	}
	if i.known == nil || len(i.known) == mostInterned {
		i.known = map[string]string{}
	}
	i.known[s] = s
	return s
}
