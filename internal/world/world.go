// Package world says what the cluster's objects mean for one node.
//
// A World is the only input of every feature. It is built from objects by
// package source, which has parsed and checked everything: inside a World no
// address is malformed, no range reversed, no reference dangling. What the
// kernel shows (interfaces, addresses, capabilities) is part of it, so that a
// feature which depends on an interface follows it like any other object.
//
// Worlds are persistent values: they are never changed once built, and a part
// that did not change keeps its pointer from one build to the next.
package world

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/quote"
)

// A World is the cluster as one node sees it.
type World struct {
	Node        *Node          // this node
	Peers       *Peers         // the other nodes
	Config      *Config        // the settings in force on this node
	Attachments *Attachments   // pods wired to this node's pod network
	Kernel      *Kernel        // what this node's kernel shows
	Underlay    *Underlay      // how packets to peers leave; nil: nobody looked
	TCP         *TCPSeen       // what network namespaces have
	Allocations *Parts         // choices of earlier turns that must not change by themselves
	Taken       *Taken         // ports of the node that are others'; nil: none
	Observed    *Parts         // what helpers of features observed
	Metrics     netip.AddrPort // where the agent serves metrics and health; zero: nowhere

	// What features need beside these; what none needs is empty.
	Pods       *Pods
	LocalPods  *Pods // those of them that are this node's
	Namespaces *Sorted[Namespace]
	Services   *Sorted[Service]
	Egresses   *Sorted[Egress]
	// Selections are the pods that objects ask for: made of both, and so not written.
	Selections *Selections `json:"-"`
}

// PodsPass is whether the network between the nodes was seen to let pass what has a
// pod's address as its source.
const PodsPass = Own[bool]("pods-pass")

// PodsPass reports whether that was seen.
func (w *World) PodsPass() bool {
	seen := PodsPass.In(w)
	return seen != nil && *seen
}

// A Node is a machine of the cluster.
type Node struct {
	Name      string
	Addresses []netip.Addr   // as the cluster knows them, the primary one first
	External  []netip.Addr   // by which those outside the cluster reach the node, where they are others
	PodCIDRs  []netip.Prefix // at most one of each family
	// Ends are a peer's ends of the overlay, as its agent reports them: at most
	// one of each family, that of the tunnel first. None: its Addresses serve.
	Ends []netip.Addr
	// MAC is the hardware address of its VXLAN device. That of a peer is zero where it
	// is another node's: nothing can be wrapped for both.
	MAC MAC
	// InForce is the overlay of a peer, as its agent reports it.
	InForce InForce
}

// InForce is what two nodes must have alike to understand each other.
type InForce struct {
	Mode      OverlayMode // "": not known
	Port, VNI int
}

// Address returns n's first address of the family of like.
func (n *Node) Address(like netip.Addr) (netip.Addr, bool) {
	for _, a := range n.Addresses {
		if a.Is4() == like.Is4() {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Gateways returns the first usable address of each of n's pod CIDRs: the
// node's own address in its pod network.
func (n *Node) Gateways() []netip.Addr {
	var out []netip.Addr
	for _, p := range n.PodCIDRs {
		out = append(out, Gateway(p))
	}
	return out
}

// Gateway is the first usable address of a pod CIDR.
func Gateway(podCIDR netip.Prefix) netip.Addr { return podCIDR.Masked().Addr().Next() }

// Equal reports whether n and m say the same.
func (n *Node) Equal(m *Node) bool {
	return n.Name == m.Name && slices.Equal(n.Addresses, m.Addresses) && slices.Equal(n.External, m.External) &&
		slices.Equal(n.PodCIDRs, m.PodCIDRs) && slices.Equal(n.Ends, m.Ends) && n.InForce == m.InForce && n.MAC == m.MAC
}

// Peers are the other nodes of the cluster, sorted by name.
type Peers struct{ Nodes []*Node }

// An Attachment is a pod's place in this node's pod network.
type Attachment struct {
	Namespace, Pod string // the pod, as the runtime named it
	ContainerID    string
	Interface      string // its name inside the pod
	Netns          string // path of the pod's network namespace
	Inode          uint64 `json:",omitempty"` // of that namespace; the path may come to name another
	Place          string `json:",omitempty"` // the directory in which the path was, as package netns names it
	Addresses      []netip.Addr
	// Chained: another CNI made the wire and gave the addresses; all we know of
	// the pod is who it is.
	Chained   bool       `json:",omitempty"`
	HostPorts []HostPort `json:",omitempty"`
	Bandwidth Bandwidth  `json:",omitzero"`
	// Wire is the name of the wire of one whose record is lost: all that is known of
	// it are that, its addresses, and the hardware address at its end, if any.
	Wire string `json:",omitempty"`
	MAC  MAC    `json:",omitzero"`
}

// Key names the attachment; no other of the node has the same.
func (a *Attachment) Key() string { return a.ContainerID + "@" + a.Interface }

// A HostPort is a port of the node that leads to a port of a pod.
type HostPort struct {
	Address  netip.Addr // of the node; unspecified or zero: any
	Port     uint16
	Protocol byte // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	PodPort  uint16
}

// Overlaps reports whether p and q are the same port of the node, on at least
// one address.
func (p HostPort) Overlaps(q HostPort) bool {
	return p.Port == q.Port && p.Protocol == q.Protocol && (p.Anywhere() || q.Anywhere() || p.Address == q.Address)
}

// Anywhere reports whether p is a port of all the node's addresses.
func (p HostPort) Anywhere() bool { return !p.Address.IsValid() || p.Address.IsUnspecified() }

// String is the port as people write it: 8080/tcp, or 192.0.2.1:8080/tcp.
func (p HostPort) String() string {
	name := ProtocolName(p.Protocol)
	if p.Anywhere() {
		return fmt.Sprintf("%d/%s", p.Port, name)
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.Address, p.Port), name)
}

// Bandwidth bounds what a pod receives (ingress) and sends (egress). Rates are in
// bits a second, bursts in bits; zero: no bound. CNI conventions, "bandwidth".
type Bandwidth struct {
	IngressRate, IngressBurst uint64
	EgressRate, EgressBurst   uint64
}

// Attachments are the pods wired to this node, sorted by container and interface.
type Attachments struct{ List []*Attachment }

// A Problem is a mistake in the user's objects, worded for the user. It never
// keeps the rest from being applied.
type Problem struct {
	Object string `json:"object"`           // "AgentConfig default"
	Field  string `json:"field"`            // "spec.nodeSNATPortRange"
	Reason string `json:"reason"`           // "invalid port range 60999-32768"
	Hint   string `json:"hint,omitempty"`   // "write the lower port first: 32768-60999"
	Source string `json:"source,omitempty"` // the file it came from, if any
}

// String is the problem as one sentence.
func (p Problem) String() string {
	s := p.Object
	if p.Source != "" {
		s = p.Source + ": " + s
	}
	if p.Field != "" {
		s += ": " + p.Field
	}
	s += ": " + p.Reason
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Told is p as people, the log and the cluster are told of it: nothing of it is
// longer than a FairleadNode has room for.
func (p Problem) Told() Problem {
	p.Object, p.Field, p.Source = quote.Text(p.Object, mostPlace), quote.Text(p.Field, mostPlace), quote.Text(p.Source, mostPlace)
	p.Reason, p.Hint = quote.Text(p.Reason, mostWords), quote.Text(p.Hint, mostWords)
	return p
}

// How long parts of a Problem are at most, in bytes. Objects have a kind, and two
// names of up to 253 and 63; a source is a path.
const (
	mostPlace = 384
	mostWords = 512
)

// A Report is something to tell the cluster about an object: a condition that
// holds or does not, with a reason for people. It is what this node contributes, and
// is made of what this node knows. One about the node's FairleadNode is a condition
// there; of any other object the controller makes conditions of all nodes' reports.
// Who finds several things wrong with an object reports each.
type Report struct {
	Object  string `json:"object"` // its kind, and its name or NAMESPACE/NAME: "FairleadNode n1"
	Type    string `json:"type"`   // "SNATPortsRandomized"
	Status  bool   `json:"status"`
	Unknown bool   `json:"unknown,omitempty"` // nobody can tell, whatever Status says
	Reason  string `json:"reason"`            // one CamelCase word
	Message string `json:"message"`
	// Generation of the object that it is about; 0: the object has none.
	Generation int64 `json:"generation,omitempty"`
	// Severity is how loudly it is told when it is new.
	Severity slog.Level `json:"severity,omitempty"`
}
