// Package source turns objects, as people and the cluster write them, into the
// world that features render.
//
// It is the door: everything is parsed and checked here, once. A mistake in an
// object becomes a Problem on that object, and what can still be understood
// counts. Objects come from a directory (package dir) or, later, from an API
// server; what the kernel shows comes from package kernel.
package source

import (
	"errors"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// Objects is everything that a source holds at one moment. An object that did
// not change keeps its pointer.
type Objects struct {
	Revision int64 // grows with every change
	Nodes    []*corev1.Node
	Configs  []*v1alpha1.AgentConfig
	Reports  []*v1alpha1.FairleadNode // what agents say of their nodes to others
	Egresses []*v1alpha1.Egress       // with the numbers and nodes of their addresses

	// Sorted by key; equal ones keep their pointers.
	Pods       sorted.List[*world.Pod]
	Namespaces []*world.Namespace
	Services   []*world.Service

	APIServer []netip.Addr // where they come from, if it is one

	Problems []world.Problem   // documents and fields that could not be read
	Files    map[string]string // where each object was read: "Node n1" and its file
}

// ErrWaiting is why a source has no objects yet although nothing is wrong with it.
var ErrWaiting = errors.New("waiting")

// Inputs is all that a world is made of.
type Inputs struct {
	Objects     *Objects
	Attachments *world.Attachments
	Kernel      *world.Kernel
	TCP         *world.TCPSeen  // nil: nobody looked
	Underlay    *world.Underlay // nil: nobody looked
	Allocations *world.Parts    // those of the last turn; nil: none
	Before      *world.Peers    // those of the last world: what they have is in force; nil: none
	Observed    []world.Part    // by helpers of features
	Metrics     netip.AddrPort  // where the agent serves them; zero: nowhere
}

// A Builder builds the worlds of one node, one after the other. It remembers
// what it made of each object, so that one change costs one object, and keeps
// the pointers of parts that did not change. A new Builder makes an equal world
// of the same inputs.
type Builder struct {
	node     string
	switches []world.Switch
	nodes    map[*corev1.Node]meaning
	egresses map[*v1alpha1.Egress]readEgress
	read     reading
	mac      func(node string) world.MAC
	among    settled
	limit    *bounds
	picks    *world.Selecting
	last     world.World
}

// reading is what became of all objects but Nodes and reports. Objects that are
// the same values as before are not read again.
type reading struct {
	objects  *Objects
	world    world.World // without attachments and kernel
	problems []world.Problem
}

// meaning is what became of one Node.
type meaning struct {
	node     *world.Node
	created  int64 // in Unix time; 0: not known
	problems []world.Problem
}

// NewBuilder returns a builder for the named node. Switches are the names of the
// features that can be switched off.
func NewBuilder(node string, switches ...world.Switch) *Builder {
	return &Builder{node: node, switches: switches, nodes: map[*corev1.Node]meaning{}, mac: world.OverlayMAC, picks: world.NewSelecting()}
}

// Build returns the world of the builder's node, and the mistakes found in the
// objects. The world's Node is nil where there is no such Node yet.
func (b *Builder) Build(in Inputs) (*world.World, []world.Problem) {
	if b.read.objects != in.Objects {
		b.read = b.readObjects(in.Objects)
	}
	w := b.read.world
	w.Attachments, w.Kernel, w.TCP, w.Allocations, w.Metrics, w.Underlay = in.Attachments, in.Kernel, in.TCP, in.Allocations, in.Metrics, in.Underlay
	w.Observed = b.last.Observed.PartsOf(in.Observed)
	w.Taken = world.PortsTaken.In(&w)
	if w.Allocations == nil {
		w.Allocations = &world.Parts{}
	}
	if w.TCP == nil {
		w.TCP = &world.TCPSeen{Node: PlainTCP}
	}
	b.keep(&w)
	if w.Selections = b.last.Selections; w.Selections == nil || w.Pods != b.last.Pods || w.Services != b.last.Services {
		w.Selections = b.picks.Of(w.Pods, w.Services)
	}
	b.limit = boundsOf(&w, in.Objects.APIServer).orSame(b.limit)
	nodes := together{in.Objects.Nodes, in.Objects.Reports, in.Before, Contested.Of(w.Allocations), b.limit}
	if !b.among.decides(nodes) {
		b.among = b.settleNodes(nodes)
	}
	w.Node, w.Peers = b.among.node, b.among.peers
	w.Allocations = w.Allocations.With(Contested.Only(b.among.claims))
	b.keepNodes(&w)
	b.among.peers = w.Peers
	b.read.world, b.last = w, w
	problems := slices.Concat(in.Objects.Problems, b.among.problems, b.read.problems, besideOthers(&w, b.node))
	for i, p := range problems {
		if p.Source == "" {
			p.Source = in.Objects.Files[p.Object]
		}
		problems[i] = p.Told()
	}
	return &w, problems
}

func (b *Builder) readObjects(o *Objects) reading {
	out := reading{objects: o, world: world.World{
		Pods: &world.Pods{List: o.Pods}, LocalPods: b.localPods(o.Pods), Namespaces: list(o.Namespaces), Services: list(o.Services)}}
	out.world.Config, out.problems = b.buildConfig(o.Configs)
	egresses, problems := b.parseEgresses(o.Egresses)
	out.world.Egresses, out.problems = list(egresses), append(out.problems, problems...)
	return out
}

// localPods are those of the builder's node. Of 100,000 pods hardly any is: where
// none of those that changed is, they stay.
func (b *Builder) localPods(pods sorted.List[*world.Pod]) *world.Pods {
	last, before := b.read.world.LocalPods, sorted.List[*world.Pod]{}
	if last == nil {
		last = &world.Pods{}
	} else {
		before = b.read.world.Pods.List
	}
	gone, come := sorted.Differing(before, pods, world.ComparePods)
	others := func(p *world.Pod) bool { return p.Node != b.node }
	gone, come = slices.DeleteFunc(gone, others), slices.DeleteFunc(come, others)
	if len(gone)+len(come) == 0 {
		return last
	}
	return &world.Pods{List: last.List.With(gone, come, world.ComparePods)}
}

func list[T any](all []*T) *world.Sorted[T] { return &world.Sorted[T]{List: all} }
