// Package plan says what a lab consists of: it reads lab.yaml and gives every
// node, host and firewall its addresses.
//
// It is pure. The same lab.yaml always gives the same [Plan], and a Plan can be
// built: no two networks overlap, no name is used twice, every reference leads
// somewhere.
package plan

import (
	"net/netip"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// APIVersion and Kind of lab.yaml.
const (
	APIVersion = "lab.fairlead.dev/v1alpha1"
	Kind       = "Lab"
)

// A Plan is a lab with all addresses given out. In the middle is a router; an
// underlay is a network of nodes, a segment one of hosts, each with a gateway.
type Plan struct {
	Nodes     []Node
	Underlays []Underlay
	Hosts     []Host
	Segments  []Segment
	Firewalls []Firewall
	Agent     v1alpha1.AgentConfigSpec
}

// A Node is a machine of the cluster. Lists have IPv4 first.
type Node struct {
	Name      string         `json:"name"`
	Underlay  int            `json:"underlay"` // index in Plan.Underlays
	Addresses []netip.Prefix `json:"addresses"`
	PodCIDRs  []netip.Prefix `json:"podCIDRs"`
}

// A Network is the router's, or a firewall's, end of a shared wire: the address
// it has there in each of the wire's networks.
type Network struct{ Gateways []netip.Prefix }

// Prefixes are the networks themselves.
func (n Network) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, g := range n.Gateways {
		out = append(out, g.Masked())
	}
	return out
}

// An Underlay is a network of nodes.
type Underlay struct {
	Network
	// SourceCheck: it drops what a node sends that has none of the node's addresses as
	// its source.
	SourceCheck bool
}

// A Segment is a wire that hosts share.
type Segment struct {
	Network
	Firewall int // index in Plan.Firewalls; Direct where the router is the gateway
}

// Direct marks a segment that no firewall stands before.
const Direct = -1

// A Host is a machine outside the cluster.
type Host struct {
	Name      string
	Addresses []netip.Prefix
	Segment   int // index in Plan.Segments
}

// A Firewall stands, without state, between the router and its hosts.
type Firewall struct {
	Name    string
	Router  []netip.Prefix // the router's addresses on the wire to the firewall
	Own     []netip.Prefix // the firewall's
	Rules   []Rule
	Default Action
}

// Action is what becomes of a packet.
type Action string

// The actions.
const (
	Accept Action = "accept"
	Drop   Action = "drop"
)

// Direction is where a packet goes: In towards the cluster, Out towards the
// hosts behind the firewall.
type Direction string

// The directions.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// A Rule is one line of a firewall. What is zero matches everything.
type Rule struct {
	Direction Direction
	Action    Action
	Protocols []byte // IANA numbers: a packet of any of them
	Low, High uint16 // destination ports
	Flags     []string
}

// Address returns the first address in list of the family of like.
func Address(list []netip.Prefix, like netip.Addr) (netip.Addr, bool) {
	for _, p := range list {
		if p.Addr().Is4() == like.Is4() {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}
