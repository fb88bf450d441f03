package agent

import (
	"fmt"
	"strings"

	"fairlead.dev/fairlead/internal/world"
)

// blind says why an agent that holds all it should cannot serve the next pod: it
// sees none of the namespaces of those that it has. Nothing of theirs is touched.
func blind(k *world.Kernel) string {
	if len(k.Blind) == 0 {
		return ""
	}
	return fmt.Sprintf("network namespaces in %s cannot be seen, and %d pods of this node are attached whose namespaces are not known to be gone; "+
		"nothing of theirs is touched: give the agent the node's %s, with mounts propagated into it (HostToContainer)",
		strings.Join(k.Blind, ", "), len(k.Unseen), strings.Join(k.Blind, ", "))
}

// see takes readiness back from an agent that is blind, and tells it once.
func (a *Agent) see(last, now *Snapshot) {
	reason := blind(now.World.Kernel)
	if reason == "" {
		return
	}
	now.Ready, now.Reason = false, reason
	if last.Reason == reason {
		return
	}
	a.config.Log.Error("blind", "reason", reason)
	a.events.Record(world.Event{Object: "Node " + a.config.Node, Type: world.Warning, Reason: "NamespacesUnseen", Message: reason})
}
