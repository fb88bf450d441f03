package agent

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/world"
)

// report is what s tells the cluster.
func (a *Agent) report(s *Snapshot) status.Report {
	n := nodeReport(a.config.Node, s)
	n.Status.Version = quote.Text(a.config.Version, quote.Value)
	n.Status.Capabilities = capabilities(a.kernel.Capabilities)
	n.Status.Counters = v1alpha1.Counters{Attachments: int64(len(a.book.Attachments().List)), DriftRepairs: a.repaired}
	reports, use := a.helpers.report(s)
	n.Status.Counters.SNATPortUsePercent = use
	about := configReports(s.Configs, a.config.Node, s.Problems)
	for _, r := range slices.Concat(s.Rendered.Reports, reports) {
		if a.isOwn(r) {
			n.Status.Conditions = append(n.Status.Conditions, condition(r))
		} else {
			about = append(about, r)
		}
	}
	listReports(&n.Status, about)
	if s.World != nil {
		n.Status.Counters.Peers = int64(len(s.World.Peers.Nodes))
	}
	listProblems(&n.Status, s.Problems) // in the room that is left
	return status.Report{Node: n, Network: network(s), Pods: a.notes.of(s.Rendered.Notes)}
}

// notes are what annotations should say, for the cluster. Most turns change none
// of them, and they may be many.
type notes struct {
	last []world.Note
	pods []status.Pod
}

func (n *notes) of(now []world.Note) []status.Pod {
	if len(now) == len(n.last) && (len(now) == 0 || &now[0] == &n.last[0]) {
		return n.pods
	}
	pods := make([]status.Pod, 0, len(now))
	i := 0
	for _, note := range now { // both are in the order of pods
		for i < len(n.last) && n.last[i].Pod.Compare(note.Pod.Key) < 0 {
			i++
		}
		if i < len(n.last) && n.last[i] == note {
			pods = append(pods, n.pods[i])
			continue
		}
		p := status.Pod{Namespace: note.Pod.Namespace, Name: note.Pod.Name, UID: types.UID(note.Pod.Local.UID)}
		if note.Value != "" {
			p.Annotations = map[string]string{note.Name: note.Value}
		}
		if value, there := note.Pod.Local.Annotations.Get(note.Name); there {
			p.Present = map[string]string{note.Name: value}
		}
		pods = append(pods, p)
	}
	n.last, n.pods = now, pods
	return pods
}

// A reportKey is what tells a report from one that says the same again: messages
// count something.
type reportKey struct {
	object, kind, reason string
	status, unknown      bool
}

func keyOf(r world.Report) reportKey {
	return reportKey{r.Object, r.Type, r.Reason, r.Status, r.Unknown}
}

func nodeReport(name string, s *Snapshot) *v1alpha1.FairleadNode {
	n := &v1alpha1.FairleadNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "FairleadNode"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
	if s.World != nil && s.World.Node != nil && s.World.Config.HasOverlay() {
		for _, e := range s.World.ReportedEnds() {
			n.Status.OverlayAddresses = append(n.Status.OverlayAddresses, e.Address.String())
		}
	}
	if s.World != nil && s.World.Node != nil {
		n.Status.Overlay = inForce(s.World)
	}
	n.Status.ObservedRevision, n.Status.AppliedRevision = s.Observed, s.Applied
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Applied", Message: "the kernel is as desired"}
	if !s.Ready {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "NotApplied", short(s.Reason)
	}
	n.Status.Conditions = append(n.Status.Conditions, ready)
	return n
}

// isOwn reports whether r is about the node itself.
func (a *Agent) isOwn(r world.Report) bool { return r.Object == "FairleadNode "+a.config.Node }

// inForce is w's overlay as others are told of it.
func inForce(w *world.World) *v1alpha1.OverlayInForce {
	o := w.Config.Overlay
	if !w.Config.HasOverlay() {
		return &v1alpha1.OverlayInForce{Mode: string(world.None)}
	}
	return &v1alpha1.OverlayInForce{Mode: string(o.Mode), Port: o.Port, VNI: o.VNI, MTU: w.PodMTU(), Encryption: "none"}
}

// capabilities are c in the words of the API, sorted by name.
func capabilities(c world.Capabilities) []v1alpha1.Capability {
	return []v1alpha1.Capability{
		{Name: "FullyRandomPorts", Available: c.FullyRandomPorts.OK, Reason: short(c.FullyRandomPorts.Reason)},
		{Name: "TCX", Available: c.TCX.OK, Reason: short(c.TCX.Reason)},
		{Name: "TCXEgress", Available: c.TCXEgress.OK, Reason: short(c.TCXEgress.Reason)},
	}
}

// network says whether pods of this node have the network that s should give them.
// A node that cannot be read about says nothing new.
func network(s *Snapshot) status.Network {
	if s.World == nil || s.World.Node == nil {
		return status.Network{}
	}
	if s.World.Config.Overlay.Mode == world.None {
		return status.Network{State: status.NetworkNotOurs}
	}
	switch unready := s.unready(); {
	case !s.Ready:
		return status.Network{State: status.NetworkBroken, Message: short(s.Reason)}
	case unready != nil:
		return status.Network{State: status.NetworkBroken, Message: short(unready.Error())}
	}
	return status.Network{State: status.NetworkWorks, Message: "the pod network works on this node"}
}

// longest is how long a message may be that the cluster is told, in bytes.
const longest = 512

func short(message string) string { return quote.Text(message, longest) }
