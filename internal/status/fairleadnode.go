package status

import (
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// nodeReport is the node's FairleadNode.
type nodeReport struct {
	tries
	s *APIServer

	want    *v1alpha1.FairleadNodeStatus // nil: nothing is told yet
	changed time.Time                    // since when it differs, in more than counters, or when it is this node's turn

	have *v1alpha1.FairleadNodeStatus // in the cluster; nil: not known. Only Run changes it
	look time.Time                    // when that is no longer known
	slow time.Time                    // counters alone are not written before
}

func (n *nodeReport) set(status v1alpha1.FairleadNodeStatus, turn time.Time) {
	if n.want == nil || n.counted() {
		n.changed = turn
	}
	n.want = &status
}

// due waits a moment, since changes come together, and longer with bad news: an
// agent that starts has not read everything yet, and what fails is tried again.
func (n *nodeReport) due() time.Time {
	switch {
	case n.want == nil:
		return time.Time{}
	case !n.counted() && meta.IsStatusConditionFalse(n.want.Conditions, "Ready"):
		return n.changed.Add(unreadyAfter)
	case !n.counted():
		return n.changed.Add(together)
	}
	if want := since(*n.have, *n.want); !same(&want, n.have) && n.slow.Before(n.look) {
		return n.slow
	}
	return n.look
}

// counted reports whether counters and revisions are all that is to be told, if
// anything is.
func (n *nodeReport) counted() bool {
	if n.have == nil {
		return false
	}
	want := since(*n.have, *n.want)
	want.Counters, want.ObservedRevision, want.AppliedRevision = n.have.Counters, n.have.ObservedRevision, n.have.AppliedRevision
	return same(&want, n.have)
}

func (n *nodeReport) write(ctx context.Context) error {
	s := n.s
	s.mu.Lock()
	want := n.want
	s.mu.Unlock()
	have := n.have
	known := have != nil && time.Now().Before(n.look)
	if !known {
		var err error
		if have, err = n.read(ctx); err != nil {
			return err
		}
		if n.settle(have) {
			return nil
		}
	}
	status := since(*have, *want)
	err := patch(s.ours, map[string]any{
		"apiVersion": v1alpha1.APIVersion, "kind": "FairleadNode", "metadata": map[string]any{"name": s.node}, "status": status,
	}).Resource("fairleadnodes").Name(s.node).SubResource("status").Do(ctx).Error()
	if apierrors.IsNotFound(err) && known { // somebody deleted it
		s.mu.Lock()
		n.have = nil
		s.mu.Unlock()
		return n.write(ctx)
	}
	if err != nil {
		return err
	}
	s.metrics.writes.WithLabelValues(n.kind.name).Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	n.have, n.slow = &status, time.Now().Add(about(pace(want.Counters.Peers)))
	return nil
}

// pace is how often counters alone are written. Every agent reads every report, so
// that what a large cluster writes is bounded: one in a second.
func pace(peers int64) time.Duration { return max(countEvery, time.Duration(peers)*time.Second) }

// settle notes what is in the cluster, and reports whether that may stay for now.
func (n *nodeReport) settle(have *v1alpha1.FairleadNodeStatus) bool {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	now := time.Now()
	n.have, n.look = have, now.Add(about(lookAgain))
	return n.due().After(now)
}

// read returns what is in the cluster. A FairleadNode that is not there, or is not
// the Node's, is made first: it goes when the Node goes.
func (n *nodeReport) read(ctx context.Context) (*v1alpha1.FairleadNodeStatus, error) {
	s := n.s
	node, err := s.getNode(ctx)
	if err != nil {
		return nil, err
	}
	there := &v1alpha1.FairleadNode{}
	err = s.ours.Get().Resource("fairleadnodes").Name(s.node).MaxRetries(0).Do(ctx).Into(there)
	owned := slices.ContainsFunc(there.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == node.UID })
	if apierrors.IsNotFound(err) || err == nil && !owned {
		err = s.own(there, node).Do(ctx).Into(there)
	}
	return &there.Status, err
}

// own makes the FairleadNode, with the Node as its owner.
func (s *APIServer) own(there *v1alpha1.FairleadNode, node metav1.Object) *rest.Request {
	*there = v1alpha1.FairleadNode{}
	return patch(s.ours, map[string]any{
		"apiVersion": v1alpha1.APIVersion, "kind": "FairleadNode",
		"metadata": map[string]any{"name": s.node, "ownerReferences": []any{
			map[string]any{"apiVersion": "v1", "kind": "Node", "name": node.GetName(), "uid": node.GetUID()},
		}},
	}).Resource("fairleadnodes").Name(s.node)
}
