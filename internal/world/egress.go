package world

import (
	"net/netip"
	"slices"
)

// An Egress has chosen pods leave the cluster with chosen addresses. Its Key has no
// Namespace.
type Egress struct {
	Key
	Generation int64
	Created    int64 // in Unix time; of two that select a pod the older has it, and then the first by name
	// Namespaces and Pods say whom it is for: pods that Pods selects, in namespaces that
	// Namespaces selects. One that is nil is not written, and all are meant; where both are,
	// nobody is.
	Namespaces, Pods *LabelSelector `json:",omitempty"`
	Addresses        []EgressAddress
	Except           []netip.Prefix // destinations that are reached as without it
	Randomize        *bool          `json:",omitempty"` // nil: as the settings say
	Ports            PortRange      // zero: as the settings say
	FallBack         bool           // while it has no address at work, as without it; else refused
}

// An EgressAddress is a source address of an Egress.
type EgressAddress struct {
	Address netip.Addr
	Number  uint16 // 1 to [LastEgressNumber], of no other address; 0: it has none yet
	Node    string // that has it; "": none
}

// LastEgressNumber is the greatest number that an address of an Egress can have.
const LastEgressNumber = 1<<14 - 1

// MostEgressAddresses are as many as an Egress can have.
const MostEgressAddresses = 64

// Equal reports whether e and f say the same.
func (e *Egress) Equal(f *Egress) bool {
	return e.Key == f.Key && e.Generation == f.Generation && e.Created == f.Created && e.Ports == f.Ports && e.FallBack == f.FallBack &&
		e.Namespaces.Equal(f.Namespaces) && e.Pods.Equal(f.Pods) && slices.Equal(e.Addresses, f.Addresses) && slices.Equal(e.Except, f.Except) &&
		(e.Randomize == nil) == (f.Randomize == nil) && (e.Randomize == nil || *e.Randomize == *f.Randomize)
}

// Selects reports whether e is for a pod with the given labels, in a namespace with the
// given ones.
func (e *Egress) Selects(namespace, pod Labels) bool {
	if e.Namespaces == nil && e.Pods == nil {
		return false
	}
	return e.Namespaces.Matches(namespace) && e.Pods.Matches(pod)
}

// Older reports whether e comes before f where both select a pod.
func (e *Egress) Older(f *Egress) bool {
	if e.Created != f.Created {
		return e.Created < f.Created
	}
	return e.Name < f.Name
}
