package datapath

import "fairlead.dev/fairlead/internal/datapath/link"

// A Kind is what a change is about, for those who count changes or must know
// whom a failure concerns.
type Kind string

// The kinds of change.
const (
	KindRules      Kind = "rules"      // a table, chain, set, element or rule of nftables
	KindLink       Kind = link.Itself  // a network device: whether it is there, up, and its MTU
	KindAddress    Kind = link.Address // an address on a device
	KindOffload    Kind = link.Offload // what a device leaves to hardware
	KindSetting    Kind = link.Setting // a file under /proc/sys
	KindQdisc      Kind = "qdisc"      // how packets are queued at a device
	KindNeighbour  Kind = "neighbour"  // a hardware address of an IP address
	KindForwarding Kind = "forwarding" // a tunnel endpoint of a hardware address
	KindProxy      Kind = "proxy"      // an address for which the node answers on others' behalf
	KindRoute      Kind = "route"
	// KindRoutingRule is of what says in which table packets look for a route.
	KindRoutingRule Kind = "routing-rule"
	KindGate        Kind = "gate"  // a program at a device that refuses packets
	KindGuest       Kind = "guest" // a rule of ours in a chain that is somebody else's
)

// Kinds are all there are.
var Kinds = []Kind{KindRules, KindLink, KindAddress, KindOffload, KindSetting, KindQdisc, KindNeighbour, KindForwarding, KindProxy, KindRoute, KindRoutingRule, KindGate, KindGuest}
