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
	"net/netip"
	"slices"
)

// A World is the cluster as one node sees it.
type World struct {
	Node        *Node        // this node
	Peers       *Peers       // the other nodes
	Config      *Config      // the settings in force on this node
	Attachments *Attachments // pods wired to this node's pod network
	Kernel      *Kernel      // what this node's kernel shows
	Allocations *Allocations // what was given out before
}

// A Node is a machine of the cluster.
type Node struct {
	Name      string
	Addresses []netip.Addr   // as the cluster knows them, the primary one first
	PodCIDRs  []netip.Prefix // at most one of each family
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
		out = append(out, p.Masked().Addr().Next())
	}
	return out
}

// Equal reports whether n and m say the same.
func (n *Node) Equal(m *Node) bool {
	return n.Name == m.Name && slices.Equal(n.Addresses, m.Addresses) && slices.Equal(n.PodCIDRs, m.PodCIDRs)
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
	Addresses      []netip.Addr
	// Chained: another CNI made the wire and gave the addresses; all we know of
	// the pod is who it is.
	Chained   bool       `json:",omitempty"`
	HostPorts []HostPort `json:",omitempty"`
	Bandwidth Bandwidth  `json:",omitzero"`
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
	name := map[byte]string{6: "tcp", 17: "udp", 132: "sctp"}[p.Protocol]
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
	Reason string `json:"reason"`           // "60999-32768 runs backwards"
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

// A Report is something to tell the cluster about an object: a condition that
// holds or does not, with a reason for people.
type Report struct {
	Object  string `json:"object"` // "FairleadNode n1"
	Type    string `json:"type"`   // "SNATPortsRandomized"
	Status  bool   `json:"status"`
	Reason  string `json:"reason"` // one CamelCase word
	Message string `json:"message"`
}

// Outer returns the address that carries the overlay, which is the node's
// primary one, and the interface that holds it. Where no interface does, the
// interface is empty.
func (w *World) Outer() (netip.Addr, Interface) {
	if len(w.Node.Addresses) == 0 {
		return netip.Addr{}, Interface{}
	}
	a := w.Node.Addresses[0]
	i, _ := w.Kernel.Holding(a)
	return a, i
}

// Bytes that VXLAN adds to a pod's packet: the inner Ethernet header (14), VXLAN
// (8), UDP (8) and the outer IP header (20 or 40); RFC 7348 section 5.
const (
	vxlanOverhead4 = 50
	vxlanOverhead6 = 70
)

// standardMTU is assumed while the outer interface is not there, and where the
// node's address is on its loopback: packets leave by others then.
const standardMTU = 1500

// leastIPv6MTU is what every link that carries IPv6 must take (RFC 8200 section
// 5). Where the outer interface leaves less, wrapped packets are fragmented.
const leastIPv6MTU = 1280

// PodMTU is the largest packet of the pod network: as configured, or what the
// outer interface leaves when a packet is wrapped.
func (w *World) PodMTU() int {
	if w.Config.Overlay.MTU != 0 {
		return w.Config.Overlay.MTU
	}
	mtu := w.LeftMTU()
	for _, p := range w.Node.PodCIDRs {
		if p.Addr().Is6() {
			return max(mtu, leastIPv6MTU)
		}
	}
	return mtu
}

// LeftMTU is what the outer interface leaves of a packet when it is wrapped.
func (w *World) LeftMTU() int {
	outer, i := w.Outer()
	mtu := i.MTU
	if mtu == 0 || i.Name == "lo" {
		mtu = standardMTU
	}
	if outer.Is6() {
		return mtu - vxlanOverhead6
	}
	return mtu - vxlanOverhead4
}
