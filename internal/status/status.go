// Package status is how an agent tells the cluster what it found out: by files
// beside the manifests, or by objects of an API server.
//
// What is told is a value. Where there is an API server it may be far away, slow,
// or not there: the latest value waits for it, and nobody waits for the writer.
package status

import (
	"cmp"
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/sorted"
)

// Component names the agent: as the field manager of what it writes, and as the
// source of its events.
const Component = "fairlead-agent"

// A Writer tells the cluster. Report and Events return soon, whatever is the
// matter with the cluster; what they were given last is what counts.
type Writer interface {
	// Report tells how things are. The report must not change afterwards.
	Report(Report)
	// Events tells all that is remembered of what happened, the last at the end.
	// An event that happened again has the same name and a greater count.
	Events([]corev1.Event)
	// Earlier returns the events that the node's last agent told, if that is known.
	Earlier() []corev1.Event
	// Run writes until ctx is done.
	Run(ctx context.Context)
}

// A Report is how things are on one node.
type Report struct {
	// Node is the node's FairleadNode. It does not say since when its conditions
	// are what they are: that is in what was told before.
	Node    *v1alpha1.FairleadNode
	Network Network
	// Pods are those of this node that have annotations of ours, or had: one that
	// is not here, and was in the report before, loses them. They are in the order of
	// [ComparePods], and one of which the same is said keeps its pointer.
	Pods sorted.List[*Pod]
}

// Network says whether the pod network works on the node.
type Network struct {
	State   NetworkState
	Message string // one sentence for people
}

// NetworkState is what becomes of the Node's condition NetworkUnavailable.
type NetworkState int

// The states of the pod network on a node.
const (
	NetworkUnknown NetworkState = iota // the condition stays as it is
	NetworkWorks
	NetworkBroken
	NetworkNotOurs // another CNI makes it: a condition that we set is taken back
)

// A Pod says which annotations of ours a pod has: these, and no others.
type Pod struct {
	Namespace, Name string
	UID             types.UID // a pod of the same name that comes later is another
	Annotations     map[string]string
	// Present are those of ours that the cluster shows, whoever wrote them. What is
	// not among Annotations is removed; what is as it should be is not written.
	Present map[string]string
}

// ComparePods orders pods by namespace and name.
func ComparePods(p, q *Pod) int {
	return cmp.Or(cmp.Compare(p.Namespace, q.Namespace), cmp.Compare(p.Name, q.Name))
}

// Nowhere is the writer of an agent that tells nobody.
type Nowhere struct{}

// Report is part of Writer.
func (Nowhere) Report(Report) {}

// Events is part of Writer.
func (Nowhere) Events([]corev1.Event) {}

// Earlier is part of Writer.
func (Nowhere) Earlier() []corev1.Event { return nil }

// Run is part of Writer.
func (Nowhere) Run(context.Context) {}

// since returns now with times: a condition keeps its time until its status
// changes.
func since(before, now v1alpha1.FairleadNodeStatus) v1alpha1.FairleadNodeStatus {
	var conditions []metav1.Condition
	left := make(map[string]metav1.Condition, len(now.Conditions))
	for _, c := range now.Conditions {
		left[c.Type] = c
	}
	add := func(one []metav1.Condition, c metav1.Condition) {
		meta.SetStatusCondition(&one, c)
		conditions = append(conditions, one[0])
		delete(left, c.Type)
	}
	for _, old := range before.Conditions { // in the order of before, so that the same stays the same
		if c, there := left[old.Type]; there {
			add([]metav1.Condition{old}, c)
		}
	}
	for _, c := range now.Conditions {
		if c, there := left[c.Type]; there {
			add(nil, c)
		}
	}
	now.Conditions = conditions
	return now
}

func same(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }
