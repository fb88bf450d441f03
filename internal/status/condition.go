package status

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The reasons of our condition. By their beginning, ReasonOurs, we know it to be ours.
const (
	ReasonOurs   = "Fairlead"
	reasonWorks  = ReasonOurs + "Ready"
	reasonBroken = ReasonOurs + "NotReady"
)

// nodeCondition is the Node's condition NetworkUnavailable.
type nodeCondition struct {
	tries
	s *APIServer

	want    Network
	changed time.Time // of the state

	// Run's own.
	have *corev1.NodeCondition // in the cluster; nil: there is none
	look time.Time             // when that is no longer known; zero: it never was
}

func (n *nodeCondition) set(want Network, turn time.Time) {
	if want.State != n.want.State {
		n.changed = turn
	}
	n.want = want
}

// due waits with bad news: what fails now and then is tried again, and a node that
// says it has no network gets no pods.
func (n *nodeCondition) due() time.Time {
	switch {
	case n.want.State == NetworkUnknown:
		return time.Time{}
	case n.look.IsZero():
		return n.changed
	case n.settled():
		return n.look
	case n.want.State == NetworkBroken:
		return n.changed.Add(brokenAfter)
	}
	return n.changed
}

// settled reports whether the condition is as it should be.
func (n *nodeCondition) settled() bool {
	if n.want.State == NetworkNotOurs {
		return n.have == nil || !strings.HasPrefix(n.have.Reason, ReasonOurs)
	}
	c := n.want.condition()
	return n.have != nil && n.have.Status == c.Status && n.have.Reason == c.Reason && n.have.Message == c.Message
}

func (w Network) condition() corev1.NodeCondition {
	c := corev1.NodeCondition{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionFalse, Reason: reasonWorks, Message: w.Message}
	if w.State == NetworkBroken {
		c.Status, c.Reason = corev1.ConditionTrue, reasonBroken
	}
	return c
}

func (n *nodeCondition) write(ctx context.Context) error {
	s := n.s
	node, err := s.getNode(ctx) // others write this condition too
	if err != nil {
		return err
	}
	want, settled := n.settle(node)
	if settled {
		return nil
	}
	conditions := []corev1.NodeCondition{} // ours goes where we apply none
	if want.State != NetworkNotOurs {
		c := want.condition()
		c.LastHeartbeatTime = metav1.Now()
		c.LastTransitionTime = c.LastHeartbeatTime
		if n.have != nil && n.have.Status == c.Status {
			c.LastTransitionTime = n.have.LastTransitionTime
		}
		conditions = append(conditions, c)
	}
	err = patch(s.core, map[string]any{
		"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": s.node, "uid": node.UID},
		"status": map[string]any{"conditions": conditions},
	}).Resource("nodes").Name(s.node).SubResource("status").Do(ctx).Error()
	if err != nil {
		return err
	}
	s.metrics.writes.WithLabelValues(n.kind.name).Inc()
	n.have = nil
	if len(conditions) > 0 {
		n.have = &conditions[0]
	}
	return nil
}

// settle notes what is in the cluster, and reports whether that may stay for now,
// or what it is to be.
func (n *nodeCondition) settle(node *corev1.Node) (Network, bool) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	now := time.Now()
	n.have, n.look = nil, now.Add(about(lookAgain))
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			n.have = &c
		}
	}
	due := n.due()
	return n.want, due.IsZero() || due.After(now)
}
