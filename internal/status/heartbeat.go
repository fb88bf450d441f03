package status

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/kube"
)

// How often an agent says that it is there, and after how many beats that are left
// out it counts as gone. All agents together write so many times a second at most.
const (
	beatEvery   = 10 * time.Second
	beatsLeft   = 4
	beatsApart  = 10 * time.Millisecond // of all agents
	beatsFor    = time.Minute           // after a report: an agent that hangs is as silent as one that is gone
	ownersAfter = 30                    // beats: the Node may have been made anew
)

// LeasePrefix and the name of the node are the name of the Lease in which its agent
// says that it is there.
const LeasePrefix = "agent-"

// heartbeat is the node's Lease.
type heartbeat struct {
	tries
	s         *APIServer
	client    rest.Interface // of coordination.k8s.io/v1
	namespace string

	reported time.Time // when the agent last reported; the lock guards it

	// Run's own.
	last  time.Time // beat that came in
	beats int
	owner types.UID // the Node
}

// Beat has the writer say that the agent is there, in a Lease in the namespace.
// It is for before Run.
func (s *APIServer) Beat(config *rest.Config, namespace string) error {
	client, err := kube.Client(config, coordinationv1.SchemeGroupVersion)
	if err != nil {
		return err
	}
	s.heart = &heartbeat{tries: tries{kind: s.kinds.lease}, s: s, client: client, namespace: namespace}
	return nil
}

// beatPace is how long after another beats come in a cluster with so many other
// nodes.
func beatPace(peers int64) time.Duration { return max(beatEvery, time.Duration(peers)*beatsApart) }

func (h *heartbeat) due() time.Time {
	if time.Since(h.reported) > beatsFor {
		return time.Time{}
	}
	if h.last.IsZero() {
		return h.reported
	}
	return h.last.Add(beatPace(h.peers()))
}

// peers are those of the last report.
func (h *heartbeat) peers() int64 {
	if h.s.report.want == nil {
		return 0
	}
	return h.s.report.want.Counters.Peers
}

func (h *heartbeat) write(ctx context.Context) error {
	h.s.mu.Lock()
	lasts := beatsLeft * beatPace(h.peers())
	h.s.mu.Unlock()
	if h.beats%ownersAfter == 0 || h.owner == "" {
		node, err := h.s.getNode(ctx)
		if err != nil {
			return err
		}
		h.owner = node.UID
	}
	now := time.Now()
	if err := h.send(ctx, now, lasts); err != nil {
		h.owner = "" // it may be another that is there now
		return err
	}
	h.s.metrics.writes.WithLabelValues(h.kind.name).Inc()
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if !h.last.IsZero() && now.Sub(h.last) > lasts { // it may have been said that we are gone
		h.s.network.look = time.Time{}
		h.s.report.have = nil
		h.s.report.changed = now
	}
	h.last, h.beats = now, h.beats+1
	return nil
}

// send renews the Lease, or makes it: it goes when the Node goes.
func (h *heartbeat) send(ctx context.Context, now time.Time, lasts time.Duration) error {
	seconds, renewed := int32(lasts/time.Second), metav1.NewMicroTime(now)
	lease := &coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: h.namespace, Name: LeasePrefix + h.s.node, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "Node", Name: h.s.node, UID: h.owner}}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &h.s.node, LeaseDurationSeconds: &seconds, RenewTime: &renewed},
	}
	body := map[string]any{"spec": lease.Spec, "metadata": map[string]any{"ownerReferences": lease.OwnerReferences}}
	err := mergePatch(h.client, body).Namespace(h.namespace).Resource("leases").Name(lease.Name).Do(ctx).Error()
	if !apierrors.IsNotFound(err) {
		return err
	}
	return h.client.Post().Namespace(h.namespace).Resource("leases").Body(lease).MaxRetries(0).Do(ctx).Error()
}
