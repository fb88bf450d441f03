package overlay

import (
	"testing"

	"fairlead.dev/fairlead/internal/reach"
	"fairlead.dev/fairlead/internal/world"
)

// Peers that are lost, others that are, and that all are found again are events that
// say whom it is about; the rest is none.
func TestLostPeersAreEvents(t *testing.T) {
	t.Parallel()
	unknown, all := reach.Verdict{State: reach.Unknown, Reason: "NotAskedYet"}, reach.Verdict{State: reach.All, Reason: "PeersAnswer", Message: "all"}
	lost, more := reach.Verdict{State: reach.Lost, Reason: "PeersUnreachable", Message: "n2"}, reach.Verdict{State: reach.Lost, Reason: "PeersUnreachable", Message: "n2 and n3"}
	for _, tt := range []struct {
		was, now reach.Verdict
		want     world.EventType
	}{
		{unknown, all, ""}, {all, all, ""}, {all, unknown, ""}, {lost, lost, ""},
		{unknown, lost, world.Warning}, {all, lost, world.Warning}, {lost, more, world.Warning}, {lost, all, world.Normal},
	} {
		e, news := reachEvent("n1", tt.was, tt.now)
		if news != (tt.want != "") || news && (e.Type != tt.want || e.Object != "Node n1" || e.Message != tt.now.Message || e.Reason != tt.now.Reason) {
			t.Errorf("from %+v to %+v: %+v, %t", tt.was, tt.now, e, news)
		}
	}
}
