package world

import (
	"cmp"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/sorted"
)

// Needs says which objects are needed besides Nodes and settings. What nobody
// needs is not asked for.
type Needs struct {
	Pods       Scope
	Namespaces bool
	Services   bool
	Egresses   bool
}

// With returns what n and m need together.
func (n Needs) With(m Needs) Needs {
	return Needs{max(n.Pods, m.Pods), n.Namespaces || m.Namespaces, n.Services || m.Services, n.Egresses || m.Egresses}
}

// Scope says whose pods are needed.
type Scope int

// The scopes, each wider than the one before.
const (
	NoPods      Scope = iota
	NodePods          // those of this node
	ClusterPods       // those of all nodes
)

// A Key tells apart the objects of one kind.
type Key struct{ Namespace, Name string }

// Compare orders keys by namespace, then by name.
func (k Key) Compare(l Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, l.Namespace), cmp.Compare(k.Name, l.Name))
}

// Sorted are the objects of one kind that features need, sorted by key.
type Sorted[T any] struct{ List []*T }

// Pods are pods, in the order of [ComparePods]. There may be 100,000 of them.
type Pods struct{ List sorted.List[*Pod] }

// ComparePods orders pods by key.
func ComparePods(p, q *Pod) int { return p.Compare(q.Key) }

// SortedPods returns a list of the given pods, which it sorts.
func SortedPods(pods ...*Pod) sorted.List[*Pod] { return sorted.Of(pods, ComparePods) }

// A Pod is a pod that has addresses. One that has none yet, or whose work is done,
// is none.
type Pod struct {
	Key
	Node        string
	Addresses   []netip.Addr // the primary one first; with HostNetwork the node's
	HostNetwork bool         `json:",omitempty"`
	Labels      Labels       `json:",omitzero"`
	Local       *LocalPod    `json:",omitempty"` // nil for pods of other nodes
}

// A LocalPod is what else this node knows of a pod of its own.
type LocalPod struct {
	UID         string // another pod of the name has another
	Annotations Labels // those that Fairlead reads or writes
	// Ports are those of containers that run all the time, sidecars among them.
	Ports     []ContainerPort
	HostPorts []HostPort `json:",omitempty"` // with HostNetwork what the pod itself listens on
}

// A ContainerPort is a port that a pod says it listens on.
type ContainerPort struct {
	Name     string // "" where it has none
	Port     uint16
	Protocol byte // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
}

// Equal reports whether p and q say the same.
func (p *Pod) Equal(q *Pod) bool {
	return p.Key == q.Key && p.Node == q.Node && p.HostNetwork == q.HostNetwork && p.Labels == q.Labels &&
		slices.Equal(p.Addresses, q.Addresses) && p.Local.Equal(q.Local)
}

// Equal reports whether p and q say the same.
func (p *LocalPod) Equal(q *LocalPod) bool {
	if p == nil || q == nil {
		return p == q
	}
	return p.UID == q.UID && p.Annotations == q.Annotations && slices.Equal(p.Ports, q.Ports) &&
		slices.Equal(p.HostPorts, q.HostPorts)
}
