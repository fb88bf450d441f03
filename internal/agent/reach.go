package agent

import (
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/reach"
	"fairlead.dev/fairlead/internal/world"
)

// peersReachable is what is known of the peers as a condition of the node; none where
// there is no overlay. A peer that is lost, and that all are found, are events.
func (a *Agent) peersReachable() []metav1.Condition {
	v, ok := a.reach.Verdict(time.Now())
	was := a.peers
	if a.peers = v; !ok {
		return nil
	}
	if e, news := reachEvent(a.config.Node, was, v); news {
		a.events.record(e)
	}
	status := map[reach.State]metav1.ConditionStatus{reach.All: metav1.ConditionTrue, reach.Lost: metav1.ConditionFalse}[v.State]
	if status == "" {
		status = metav1.ConditionUnknown
	}
	return []metav1.Condition{{Type: "PeersReachable", Status: status, Reason: v.Reason, Message: short(v.Message)}}
}

// reachEvent is what happened between two verdicts, if anything did.
func reachEvent(node string, was, now reach.Verdict) (world.Event, bool) {
	e := world.Event{Object: "Node " + node, Type: world.Warning, Reason: now.Reason, Message: now.Message}
	switch {
	case now.State == reach.Lost && was != now:
		return e, true
	case now.State == reach.All && was.State == reach.Lost:
		e.Type = world.Normal
		return e, true
	}
	return e, false
}

// podsPassed reports whether an agent before this one knew that pods' addresses pass
// between the nodes: the kernel has its tunnel, and no rule that leads pods to nodes
// through it. So an agent that starts changes nothing.
func podsPassed() bool {
	if _, err := netlink.LinkByName(datapath.VXLANLink); err != nil {
		return false
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	return err == nil && !slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == datapath.NodesTable })
}
