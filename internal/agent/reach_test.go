package agent

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Before a peer was asked nothing is known, and nobody says that peers are reached.
func TestPeersThatWereNotAskedAreUnknown(t *testing.T) {
	t.Parallel()
	n := newNode(t, nodes)
	n.mustTurn(t)
	c := meta.FindStatusCondition(n.report(n.snapshot.Load()).Node.Status.Conditions, "PeersReachable")
	if c == nil || c.Status != metav1.ConditionUnknown || c.Reason == "" || c.Message == "" {
		t.Errorf("the condition is %+v", c)
	}
}
