package world

import (
	"net/netip"
	"slices"
)

// Kernel is what this node's kernel shows: observations, as much a part of the
// world as any object.
type Kernel struct {
	Interfaces    []Interface // sorted by name, without our own
	LocalPorts    PortRange   // net.ipv4.ip_local_port_range
	ReservedPorts []PortRange // net.ipv4.ip_local_reserved_ports
	Capabilities  Capabilities
	LiveNetns     []string // pod network namespaces that exist, sorted
	Exits         []Exit   // at most one of each family
}

// An Exit is how packets of one family leave the node by default.
type Exit struct {
	Interface string
	Address   netip.Addr // the source that the kernel gives them
}

// An Interface is a network device of the node, with its addresses.
type Interface struct {
	Name string
	MTU  int
	// RoutesByRA: the interface has its default route from a router
	// advertisement, and would lose it once the node forwards (accept_ra=1).
	RoutesByRA bool
	Down       bool           // by its operator: it takes no route
	Addresses  []netip.Prefix // sorted
	// Fleeting are those of the addresses that may go by themselves, the more
	// lasting first: leased, temporary, deprecated (ip-address(8)).
	Fleeting []netip.Addr
}

// Capabilities says what this kernel was seen to do.
type Capabilities struct {
	// FullyRandomPorts: the kernel keeps the fully-random flag of a source NAT
	// rule inside a port range, and refuses flags it does not know.
	FullyRandomPorts Capability
}

// A Capability is the answer of a probe.
type Capability struct {
	OK     bool
	Reason string // what the probe saw when not OK
}

// Equal reports whether k and l show the same.
func (k *Kernel) Equal(l *Kernel) bool {
	return slices.EqualFunc(k.Interfaces, l.Interfaces, Interface.equal) && k.LocalPorts == l.LocalPorts &&
		slices.Equal(k.ReservedPorts, l.ReservedPorts) && k.Capabilities == l.Capabilities &&
		slices.Equal(k.LiveNetns, l.LiveNetns) && slices.Equal(k.Exits, l.Exits)
}

func (i Interface) equal(j Interface) bool {
	return i.Name == j.Name && i.MTU == j.MTU && i.RoutesByRA == j.RoutesByRA && i.Down == j.Down &&
		slices.Equal(i.Addresses, j.Addresses) && slices.Equal(i.Fleeting, j.Fleeting)
}

// Holding returns the interface that has address a.
func (k *Kernel) Holding(a netip.Addr) (Interface, bool) {
	for _, i := range k.Interfaces {
		for _, p := range i.Addresses {
			if p.Addr() == a {
				return i, true
			}
		}
	}
	return Interface{}, false
}

// HasAddress reports whether a is an address of this node.
func (w *World) HasAddress(a netip.Addr) bool {
	_, held := w.Kernel.Holding(a)
	return held || a.IsLoopback() || slices.Contains(w.Node.Gateways(), a)
}

// NetnsAlive reports whether a pod's network namespace still exists.
func (k *Kernel) NetnsAlive(path string) bool {
	_, ok := slices.BinarySearch(k.LiveNetns, path)
	return ok
}
