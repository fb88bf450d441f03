package world

import (
	"cmp"
	"maps"
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
	Exits         []Exit       // at most one of each family
	Uplinks       []Uplink     // by their routes, the best first
	Resolvers     []netip.Addr // whom the node asks for names
	ForwardDrops  []ForwardDrop
	SourceRules   []SourceRule // in the order in which they are asked, IPv4 first
	// AcceptRA is accept_ra of interfaces, by their names: "1" takes router advertisements
	// only while the node does not forward, "2" always. Of some nobody looked.
	AcceptRA map[string]string
	Router   bool // it forwarded IPv6 before there was an agent
	// Strict: each interface drops what would be answered by another one, unless its own
	// setting is looser (rp_filter of all is 1).
	Strict bool

	Seen   []string // keys of attachments whose network namespace is seen, sorted
	Unseen []Unseen // those that are not seen and, for all that is known, there; sorted
	// Blind are the directories of network namespaces in which none of the
	// attachments' can be seen, although they are not known to be gone; sorted.
	Blind []string
}

// Unseen is an attachment whose network namespace cannot be seen.
type Unseen struct {
	Attachment string // its key
	Reason     string
}

// An Exit is how packets of one family leave the node by default.
type Exit struct {
	Interface string
	Address   netip.Addr // the source that the kernel gives them
	Gateway   netip.Addr // the next hop; not valid where there is none
	MTU       int        // the least of the route's and its next hops' interfaces
}

// A SourceRule is a rule of routing, of somebody else's, by which what the node sends
// from some of its addresses looks for its way in a table of their own.
type SourceRule struct {
	Priority uint32
	From     netip.Prefix
	To       netip.Prefix // zero: anywhere
	Table    uint32
}

// An Uplink is an interface by which a default route of the main table leads.
type Uplink struct {
	Interface string
	Address   netip.Addr // the source that the node's own packets get there
	// Said: the route says so (src), and masquerade, which does not ask routes, would
	// take another, or may.
	Said bool
}

// An Interface is a network device of the node, with its addresses.
type Interface struct {
	Name string
	MTU  int
	// Hardware: it is the machine's, or stands on what is. At its far end is a network,
	// and no pod or guest.
	Hardware   bool
	Advertised bool           // an address or a route of it came by router advertisement
	Down       bool           // by its operator: it takes no route
	Port       bool           // of a bridge or a bond, which takes the routes in its place
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
	// TCX: the kernel runs programs of ours in a link's tcx ingress hook (Linux 6.6).
	TCX Capability
	// TCXEgress: and in the tcx egress hook, with what conntrack knows of a packet.
	TCXEgress Capability
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
		slices.Equal(k.Exits, l.Exits) && slices.Equal(k.Uplinks, l.Uplinks) && slices.Equal(k.Seen, l.Seen) && slices.Equal(k.Unseen, l.Unseen) && slices.Equal(k.Blind, l.Blind) && slices.Equal(k.Resolvers, l.Resolvers) &&
		slices.Equal(k.ForwardDrops, l.ForwardDrops) && slices.Equal(k.SourceRules, l.SourceRules) && maps.Equal(k.AcceptRA, l.AcceptRA) && k.Router == l.Router && k.Strict == l.Strict
}

func (i Interface) equal(j Interface) bool {
	return i.Name == j.Name && i.MTU == j.MTU && i.Hardware == j.Hardware &&
		i.Advertised == j.Advertised && i.Down == j.Down && i.Port == j.Port &&
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

// Sees reports whether the attachment's network namespace is seen.
func (k *Kernel) Sees(a *Attachment) bool {
	_, ok := slices.BinarySearch(k.Seen, a.Key())
	return ok
}

// Lost reports whether the attachment's network namespace is known to be gone.
func (k *Kernel) Lost(a *Attachment) bool {
	_, missed := k.Misses(a)
	return !missed && !k.Sees(a)
}

// Misses says why the attachment's network namespace is not seen, where it is not
// known to be gone.
func (k *Kernel) Misses(a *Attachment) (reason string, ok bool) {
	i, ok := slices.BinarySearchFunc(k.Unseen, a.Key(), func(u Unseen, key string) int { return cmp.Compare(u.Attachment, key) })
	if !ok {
		return "", false
	}
	return k.Unseen[i].Reason, true
}
