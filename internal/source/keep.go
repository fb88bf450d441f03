package source

import (
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// keepNodes puts the last world's nodes in the place of equal ones.
func (b *Builder) keepNodes(w *world.World) {
	last := b.last
	if last.Node != nil && w.Node != nil && last.Node.Equal(w.Node) {
		w.Node = last.Node
	}
	if last.Peers != nil && last.Peers != w.Peers {
		byName := map[string]*world.Node{}
		for _, n := range last.Peers.Nodes {
			byName[n.Name] = n
		}
		for i, n := range w.Peers.Nodes {
			if old := byName[n.Name]; old != nil && old.Equal(n) {
				w.Peers.Nodes[i] = old
			}
		}
		if slices.Equal(last.Peers.Nodes, w.Peers.Nodes) {
			w.Peers = last.Peers
		}
	}
}

// keep does the same with the world's other parts.
func (b *Builder) keep(w *world.World) {
	last := b.last
	if last.Config != nil && last.Config.Equal(w.Config) {
		w.Config = last.Config
	}
	if last.Kernel != nil && last.Kernel.Equal(w.Kernel) {
		w.Kernel = last.Kernel
	}
	if last.TCP != nil && last.TCP.Equal(w.TCP) {
		w.TCP = last.TCP
	}
	if last.Allocations != nil {
		w.Allocations = w.Allocations.Keeping(last.Allocations)
	}
	if last.Taken.Equal(w.Taken) {
		w.Taken = last.Taken
	}
	w.Pods, w.LocalPods = samePods(last.Pods, w.Pods), samePods(last.LocalPods, w.LocalPods)
	w.Namespaces = sameList(last.Namespaces, w.Namespaces)
	w.Services = sameList(last.Services, w.Services)
	w.Egresses = sameList(last.Egresses, sameEach(last.Egresses, w.Egresses))
}

// samePods is last where now has the same pods.
func samePods(last, now *world.Pods) *world.Pods {
	if last != nil && last.List.Equal(now.List) {
		return last
	}
	return now
}

// sameList is last where now has the same objects.
func sameList[T any](last, now *world.Sorted[T]) *world.Sorted[T] {
	if last != nil && slices.Equal(last.List, now.List) {
		return last
	}
	return now
}
