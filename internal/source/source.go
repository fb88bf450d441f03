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

	// Sorted by key; equal ones keep their pointers.
	Pods           sorted.List[*world.Pod]
	Namespaces     []*world.Namespace
	Services       []*world.Service
	EndpointSlices []*world.EndpointSlice

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
	Allocations *world.Allocations // those of the last turn; nil: none
	Taken       *world.Taken
}

// A Builder builds the worlds of one node, one after the other. It remembers
// what it made of each object, so that one change costs one object, and keeps
// the pointers of parts that did not change. A new Builder makes an equal world
// of the same inputs.
type Builder struct {
	node  string
	nodes map[*corev1.Node]meaning
	read  reading
	last  world.World
}

// reading is what became of all objects together. Objects that are the same
// values as before are not read again.
type reading struct {
	objects  *Objects
	world    world.World // without attachments and kernel
	problems []world.Problem
	nodes    []world.Problem // those of them that nodes and reports have
}

// meaning is what became of one Node.
type meaning struct {
	node     *world.Node
	problems []world.Problem
}

// NewBuilder returns a builder for the named node.
func NewBuilder(node string) *Builder {
	return &Builder{node: node, nodes: map[*corev1.Node]meaning{}}
}

// Build returns the world of the builder's node, and the mistakes found in the
// objects. The world's Node is nil where there is no such Node yet.
func (b *Builder) Build(in Inputs) (*world.World, []world.Problem) {
	if b.read.objects != in.Objects {
		b.read = b.readObjects(in.Objects)
	}
	w := b.read.world
	w.Attachments, w.Kernel, w.Allocations, w.Taken = in.Attachments, in.Kernel, in.Allocations, in.Taken
	if w.Allocations == nil {
		w.Allocations = &world.Allocations{}
	}
	b.keep(&w)
	b.read.world = w
	b.last = w
	return &w, slices.Clone(b.read.problems)
}

func (b *Builder) readObjects(o *Objects) reading {
	out := reading{objects: o, world: world.World{
		Pods: &world.Pods{List: o.Pods}, LocalPods: b.localPods(o.Pods), Namespaces: list(o.Namespaces), Services: list(o.Services), EndpointSlices: list(o.EndpointSlices),
	}}
	if was := b.read.objects; was != nil && slices.Equal(was.Nodes, o.Nodes) && slices.Equal(was.Reports, o.Reports) {
		out.world.Node, out.world.Peers, out.nodes = b.read.world.Node, b.read.world.Peers, b.read.nodes
	} else {
		out.world.Peers = &world.Peers{}
		var nodes []*world.Node
		nodes, out.nodes = b.parseNodes(o)
		for _, n := range nodes {
			if n.Name == b.node {
				out.world.Node = n
			} else {
				out.world.Peers.Nodes = append(out.world.Peers.Nodes, n)
			}
		}
	}
	config, more := buildConfig(o.Configs, b.node)
	out.world.Config = config
	out.problems = slices.Concat(o.Problems, out.nodes, more)
	for i, p := range out.problems {
		if p.Source == "" {
			out.problems[i].Source = o.Files[p.Object]
		}
	}
	return out
}

// localPods are those of the builder's node. Of 100,000 pods hardly any is: where
// none of those that changed is, they stay.
func (b *Builder) localPods(pods sorted.List[*world.Pod]) *world.Sorted[world.Pod] {
	local := func(p *world.Pod) bool { return p.Node == b.node }
	if last := b.read.world.Pods; last != nil {
		gone, come := sorted.Differing(last.List, pods, world.ComparePods)
		if !slices.ContainsFunc(gone, local) && !slices.ContainsFunc(come, local) {
			return b.read.world.LocalPods
		}
	}
	out := &world.Sorted[world.Pod]{}
	for p := range pods.All() {
		if local(p) {
			out.List = append(out.List, p)
		}
	}
	return out
}

func list[T any](all []*T) *world.Sorted[T] { return &world.Sorted[T]{List: all} }
