package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/status"
)

// ready is the type of the condition of a FairleadNode that says whether its agent has
// applied everything.
const ready = "Ready"

// The reasons of conditions that nobody answers for any more.
const (
	reasonSilentNode  = status.ReasonOurs + "Silent"
	reasonSilentAgent = "AgentSilent"
)

// said is what the conditions of a node say whose agent is silent.
func (s Silence) said() string {
	return fmt.Sprintf("its agent has not renewed its Lease for %s, last at %s: whether its pods have their network is unknown", s.Lasts, s.Renewed.UTC().Format(time.RFC3339))
}

// Silent are the nodes whose agents have not been heard of for too long: all, and
// those of which that is to be written.
func (s *apiServer) Silent() (all int, news []Silence) { return s.ear.silent() }

// Doubt has the conditions of a node say that nobody knows. Who wrote them was its
// agent, and when that is back it writes them as before: so they are written in its
// name, by server-side apply, and only where nothing came in between. A network that
// is known to be broken stays so: Unknown would take the Node's taint away.
func (s *apiServer) Doubt(ctx context.Context, silence Silence) error {
	lease := &coordinationv1.Lease{}
	err := s.leases.client.Get().Namespace(s.namespace).Resource("leases").Name(status.LeasePrefix + silence.Node).MaxRetries(0).Timeout(requestTime).Do(ctx).Into(lease)
	if apierrors.IsNotFound(err) || err == nil && !silence.Renewed.Equal(lease.Spec.RenewTime) {
		return nil // it is heard of
	}
	if err != nil {
		return fmt.Errorf("read Lease of the agent of node %s: %w", silence.Node, err)
	}
	if err := s.doubtNode(ctx, silence); err != nil {
		return fmt.Errorf("write condition of Node %s: %w", silence.Node, err)
	}
	if err := s.doubtReport(ctx, silence); err != nil {
		return fmt.Errorf("write condition of FairleadNode %s: %w", silence.Node, err)
	}
	s.ear.wrote(silence)
	return nil
}

func (s *apiServer) doubtNode(ctx context.Context, silence Silence) error {
	node := &corev1.Node{}
	err := s.nodes.client.Get().Resource("nodes").Name(silence.Node).MaxRetries(0).Timeout(requestTime).Do(ctx).Into(node)
	if err != nil {
		return unlessGone(err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeNetworkUnavailable || c.Status != corev1.ConditionFalse || !strings.HasPrefix(c.Reason, status.ReasonOurs) {
			continue
		}
		now := metav1.Now()
		c = corev1.NodeCondition{Type: c.Type, Status: corev1.ConditionUnknown, Reason: reasonSilentNode, Message: silence.said(), LastHeartbeatTime: c.LastHeartbeatTime, LastTransitionTime: now}
		return s.inItsName(ctx, s.nodes.client, "nodes", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": as(node.ObjectMeta),
			"status": map[string]any{"conditions": []corev1.NodeCondition{c}}})
	}
	return nil
}

func (s *apiServer) doubtReport(ctx context.Context, silence Silence) error {
	report := &v1alpha1.FairleadNode{}
	err := s.client.Get().Resource("fairleadnodes").Name(silence.Node).MaxRetries(0).Timeout(requestTime).Do(ctx).Into(report)
	if err != nil {
		return unlessGone(err)
	}
	doubt := metav1.Condition{Type: ready, Status: metav1.ConditionUnknown, Reason: reasonSilentAgent, Message: silence.said()}
	if has := meta.FindStatusCondition(report.Status.Conditions, ready); has == nil || has.Status == doubt.Status {
		return nil
	}
	meta.SetStatusCondition(&report.Status.Conditions, doubt)
	return s.inItsName(ctx, s.client, "fairleadnodes", map[string]any{"apiVersion": v1alpha1.APIVersion, "kind": "FairleadNode",
		"metadata": as(report.ObjectMeta), "status": report.Status}) // all of it: what is left out would go
}

// as names an object, as it was read and no other.
func as(o metav1.ObjectMeta) map[string]any {
	return map[string]any{"name": o.Name, "uid": o.UID, "resourceVersion": o.ResourceVersion}
}

// inItsName applies what belongs to the agent.
func (s *apiServer) inItsName(ctx context.Context, client rest.Interface, resource string, object map[string]any) error {
	body, err := json.Marshal(object)
	if err != nil {
		return err
	}
	name := object["metadata"].(map[string]any)["name"].(string)
	err = client.Patch(types.ApplyPatchType).Resource(resource).Name(name).SubResource("status").
		Param("fieldManager", status.Component).Param("force", "true").Body(body).MaxRetries(0).Timeout(requestTime).Do(ctx).Error()
	if apierrors.IsConflict(err) {
		return fmt.Errorf("it changed in between: %w", err)
	}
	return unlessGone(err)
}

func unlessGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
