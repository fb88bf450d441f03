// Package report puts what an agent found out into the words of the API: a pure function,
// whose result is bounded.
package report

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/world"
)

// A Node is what an agent found out about its node when it reconciled last.
type Node struct {
	Name, Version     string
	World             *world.World            // nil: nothing is known
	Configs           []*v1alpha1.AgentConfig // that Problems are about
	Ready             bool
	Reason            string // why not ready
	Unready           string // why no pod can be attached yet; "": it can
	Observed, Applied int64  // revisions of the objects
	Capabilities      world.Capabilities
	Counters          v1alpha1.Counters
	Reports           []world.Report
	Problems          []world.Problem
	Notes             sorted.List[world.Note]
}

// Report is n for the cluster.
func (n Node) Report(notes *Notes) status.Report {
	out := n.object()
	out.Status.Version = quote.Text(n.Version, quote.Value)
	out.Status.Capabilities = capabilities(n.Capabilities)
	out.Status.Counters = n.Counters
	about := configReports(n.Configs, n.Name, n.Problems)
	for _, r := range n.Reports {
		if IsOwn(n.Name, r) {
			out.Status.Conditions = append(out.Status.Conditions, condition(r))
		} else {
			about = append(about, r)
		}
	}
	listReports(&out.Status, about)
	if n.World != nil {
		out.Status.Counters.Peers = int64(len(n.World.Peers.Nodes))
	}
	listProblems(&out.Status, n.Problems) // in the room that is left
	return status.Report{Node: out, Network: n.network(), Pods: notes.of(n.Notes)}
}

// Notes are what annotations should say, for the cluster. There may be many, of which
// hardly any changes.
type Notes struct {
	last sorted.List[world.Note]
	pods sorted.List[*status.Pod]
}

func (n *Notes) of(now sorted.List[world.Note]) sorted.List[*status.Pod] {
	gone, come := sorted.Differing(n.last, now, world.CompareNotes)
	var keys []world.Key // of pods of which something else is said
	for _, note := range slices.Concat(gone, come) {
		keys = append(keys, note.Pod.Key)
	}
	slices.SortFunc(keys, world.Key.Compare)
	var was, is []*status.Pod
	for _, k := range slices.Compact(keys) {
		if p, told := n.pods.Find(func(p *status.Pod) int { return world.Key{Namespace: p.Namespace, Name: p.Name}.Compare(k) }); told {
			was = append(was, p)
		}
		if p := noted(now, k); p != nil {
			is = append(is, p)
		}
	}
	n.last, n.pods = now, n.pods.With(was, is, status.ComparePods)
	return n.pods
}

// noted is what notes say of a pod; nil: nothing.
func noted(notes sorted.List[world.Note], k world.Key) (out *status.Pod) {
	for note := range notes.From(func(n world.Note) int { return n.Pod.Compare(k) }) {
		if note.Pod.Key != k {
			break
		}
		if out == nil {
			out = &status.Pod{Namespace: k.Namespace, Name: k.Name, UID: types.UID(note.Pod.Local.UID)}
		}
		if note.Value != "" {
			out.Annotations = set(out.Annotations, note.Name, note.Value)
		}
		if value, there := note.Pod.Local.Annotations.Get(note.Name); there {
			out.Present = set(out.Present, note.Name, value)
		}
	}
	return out
}

// set is m with one more value; nil is none yet.
func set(m map[string]string, name, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[name] = value
	return m
}

// A Key is what tells a report from one that says the same again: messages
// count something.
type Key struct {
	object, kind, reason string
	status, unknown      bool
}

// KeyOf is the key of a report.
func KeyOf(r world.Report) Key {
	return Key{r.Object, r.Type, r.Reason, r.Status, r.Unknown}
}

func (n Node) object() *v1alpha1.FairleadNode {
	out := &v1alpha1.FairleadNode{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "FairleadNode"},
		ObjectMeta: metav1.ObjectMeta{Name: n.Name},
	}
	if n.World != nil && n.World.Node != nil && n.World.Config.HasOverlay() {
		for _, e := range n.World.ReportedEnds() {
			out.Status.OverlayAddresses = append(out.Status.OverlayAddresses, e.Address.String())
		}
	}
	if n.World != nil && n.World.Node != nil {
		out.Status.Overlay = inForce(n.World)
	}
	out.Status.ObservedRevision, out.Status.AppliedRevision = n.Observed, n.Applied
	ready := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Applied", Message: "the kernel is as desired"}
	if !n.Ready {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "NotApplied", short(n.Reason)
	}
	out.Status.Conditions = append(out.Status.Conditions, ready)
	return out
}

// IsOwn reports whether r is about the named node itself.
func IsOwn(node string, r world.Report) bool { return r.Object == "FairleadNode "+node }

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

// network says whether pods of this node have the network that n should give them.
// A node that cannot be read about says nothing new.
func (n Node) network() status.Network {
	if n.World == nil || n.World.Node == nil {
		return status.Network{}
	}
	if n.World.Config.Overlay.Mode == world.None {
		return status.Network{State: status.NetworkNotOurs}
	}
	switch {
	case !n.Ready:
		return status.Network{State: status.NetworkBroken, Message: short(n.Reason)}
	case n.Unready != "":
		return status.Network{State: status.NetworkBroken, Message: short(n.Unready)}
	}
	return status.Network{State: status.NetworkWorks, Message: "the pod network works on this node"}
}

// Longest is how long a message may be that the cluster is told, in bytes.
const Longest = 512

func short(message string) string { return quote.Text(message, Longest) }
