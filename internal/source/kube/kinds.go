package kube

import (
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

var ours = schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version}

// object is how most kinds tell their objects apart.
func objectKey[T metav1.Object](o T) key { return key{o.GetNamespace(), o.GetName()} }

func deepEqual[T any](a, b T) bool { return reflect.DeepEqual(a, b) }

// meta is what counts of an object's metadata.
func meta(o metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}
}

var nodes = form[*corev1.Node]{
	kind: "Node", group: corev1.SchemeGroupVersion, resource: "nodes", required: true,
	key: objectKey[*corev1.Node], equal: deepEqual[*corev1.Node],
	into: func(o *source.Objects, all []*corev1.Node) { o.Nodes = all },
	parse: func(o runtime.Object) *corev1.Node {
		n := o.(*corev1.Node)
		out := &corev1.Node{ObjectMeta: meta(n.ObjectMeta)}
		out.Spec.PodCIDRs, out.Spec.PodCIDR = n.Spec.PodCIDRs, n.Spec.PodCIDR
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				out.Status.Addresses = append(out.Status.Addresses, a)
			}
		}
		return out
	},
}

var configs = form[*v1alpha1.AgentConfig]{
	kind: "AgentConfig", group: ours, resource: "agentconfigs",
	key: objectKey[*v1alpha1.AgentConfig], equal: deepEqual[*v1alpha1.AgentConfig],
	into: func(o *source.Objects, all []*v1alpha1.AgentConfig) { o.Configs = all },
	parse: func(o runtime.Object) *v1alpha1.AgentConfig {
		c := o.(*v1alpha1.AgentConfig)
		return &v1alpha1.AgentConfig{ObjectMeta: meta(c.ObjectMeta), Spec: c.Spec}
	},
}

var reports = form[*v1alpha1.FairleadNode]{
	kind: "FairleadNode", group: ours, resource: "fairleadnodes",
	key: objectKey[*v1alpha1.FairleadNode], equal: deepEqual[*v1alpha1.FairleadNode],
	into: func(o *source.Objects, all []*v1alpha1.FairleadNode) { o.Reports = all },
	parse: func(o runtime.Object) *v1alpha1.FairleadNode {
		return source.ForOthers(o.(*v1alpha1.FairleadNode))
	},
}

func (w *watched[T]) name() string   { return w.kind }
func (w *watched[T]) state() *health { return &w.health }
func (w *watched[T]) needed() bool   { return w.required }

func (w *watched[T]) collect(o *source.Objects) { w.into(o, w.list.give()) }

// problem says why there is nothing new of this kind although the API server
// answers.
func (w *watched[T]) problem() (world.Problem, bool) {
	p := world.Problem{Object: "Kind " + w.kind}
	counts := "none count"
	if w.known {
		counts = "those known before still count"
	}
	switch {
	case apierrors.IsForbidden(w.err):
		p.Reason = fmt.Sprintf("may not be watched, %s: %s", counts, w.err)
		p.Hint = fmt.Sprintf("allow the agent to list and watch %s.%s in its ClusterRole", w.resource, w.group.Group)
	case apierrors.IsNotFound(w.err):
		p.Reason = fmt.Sprintf("is not known to the API server, %s", counts)
		p.Hint = fmt.Sprintf("install the CustomResourceDefinition %s.%s", w.resource, w.group.Group)
	default:
		return p, false
	}
	return p, true
}
