package datapath

import (
	"strings"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/nft"
)

// The ledger: everything of the kernel's that Fairlead takes for itself. What is
// listed here is ours to change and delete, on every node, also after a crash;
// nothing else is. A test forbids overlaps, and the ledger is the only place
// where these are written down.
const (
	// TablePrefix begins the name of every nftables table, of the families inet and netdev;
	// no two have one name.
	TablePrefix        = "fairlead-"
	SNATTable          = TablePrefix + "snat"
	HostPortTable      = TablePrefix + "hostport"
	NodePortLocalTable = TablePrefix + "nodeportlocal"
	GuardTable         = TablePrefix + "guard"
	UplinkTable        = TablePrefix + "uplink"
	EgressRules        = TablePrefix + "egress"
	EgressLinkRules    = TablePrefix + "egress-link" // of the netdev family, at the tunnel's exit

	// SNATPriority is just before srcnat (100), where kube-proxy and other
	// networks stand: the first to decide on a connection's source decides.
	SNATPriority = 99

	// SNATForwardPriority is before everybody's filters (0): what meets no translation
	// is to be dropped, whatever these say.
	SNATForwardPriority = -1

	// HostPortPriority is just before dstnat (-100), where kube-proxy stands: the
	// first to decide on a connection's destination decides.
	HostPortPriority = -101
	// HostPortSourcePriority is just before ours for what leaves the cluster.
	HostPortSourcePriority = SNATPriority - 1
	// NodePortLocalPriority is just behind dstnat: a port that a Service or a host
	// port has is not NodePortLocal's, whoever came first. Nobody there holds a
	// socket that would say so.
	NodePortLocalPriority = -99
	// NodePortLocalSourcePriority is just before ours for what leaves the cluster.
	NodePortLocalSourcePriority = SNATPriority - 1
	// NodePortLocalInputPriority is that of everybody's filters (0).
	NodePortLocalInputPriority = 0
	// GuardPriority is raw (-300): before conntrack, and before any translation.
	GuardPriority = -300
	// GuardSourcePriority is, in input and postrouting, before all that translate a
	// source: where one has decided, the kernel asks no other
	// (net/netfilter/nf_nat_core.c, nf_nat_inet_fn). It is the first that a chain of
	// type nat can have, behind conntrack (-200).
	GuardSourcePriority = -199

	// UplinkPriority is behind all that translates a destination in prerouting: the last
	// before a packet's route is looked for. UplinkForwardPriority is before others who look
	// at marks in forward.
	UplinkPriority        = NodePortLocalPriority + 1
	UplinkForwardPriority = -300
	// UplinkMask is the bits of a packet's mark by which answers find their uplink, from
	// UplinkPriority to the first chain in forward. kube-proxy has 0x4000 and 0x8000, AWS
	// VPC CNI 0x80, portmap 0x2000, Cilium 0x0f00, Tailscale 0xff0000; Calico, as a network of
	// its own, takes from 0xffff0000.
	UplinkMask  = 0xf << UplinkShift
	UplinkShift = 24
	// UplinkAny is of answers to which no rule of the node's applies: they leave as
	// anything else would that has an address of the node.
	UplinkAny = UplinkMask

	// EgressMarkPriority is behind all that translates a destination in prerouting, and the
	// last to mark a packet there.
	EgressMarkPriority = UplinkPriority + 1
	// EgressForwardPriority is before others who look at marks in forward.
	EgressForwardPriority = UplinkForwardPriority
	// EgressInputPriority is that of everybody's filters (0).
	EgressInputPriority = 0
	// EgressSourcePriority is before all of ours that translate what leaves the cluster.
	EgressSourcePriority = HostPortSourcePriority - 1
	// EgressWrapPriority is behind every translation of a source.
	EgressWrapPriority = 300
	// EgressSteerMark is the bit of a packet's mark that leads it to the tunnel, and
	// EgressSeenMark that of what our rules have seen. Both are there from EgressPriority to
	// the first chain in forward. The mark of a connection that an Egress translates is ours
	// as a whole; others' connections have none of it.
	EgressSteerMark = 1 << 30
	EgressSeenMark  = 1 << 31
	// EgressPort is the UDP port of the tunnel, on every node with an Egress, and EgressVNI
	// its network.
	EgressPort = 14789
	EgressVNI  = RouteProtocol

	// TunnelPriority is the priority (skb->priority) that a packet of a peer has from
	// where the guard knows it as one to where it has come out of the tunnel. A gate
	// leaves it, for rules that an agent makes which sees no gates. To a queue it is as
	// good as none: that of best effort, by its last four bits
	// (include/uapi/linux/pkt_sched.h), and of a class that nobody has.
	TunnelPriority = 0x666c0010

	// LinkPrefix begins the name of every network device. Behind it a pod's wire
	// has twelve hex digits, and the IFB device of a wire an i and eleven of these.
	LinkPrefix = "fl-"
	VXLANLink  = LinkPrefix + "vxlan"
	// EgressLink is a tunnel of its own, in which packets bring marks with them (GBP): the
	// kernel has no devices with and without that at one port.
	EgressLink = LinkPrefix + "egress"
	// EgressSinkLink is where packets to an Egress address end that belong to no connection.
	// It is an IFB device, which drops what is sent to it.
	EgressSinkLink = LinkPrefix + "egress-sink"

	// DoomedGroup is the group (ip-link(8), "group") of links of ours that are about
	// to be removed together.
	DoomedGroup = 0x666c2d00

	// FilterPref is the preference of every filter of ours on a link of ours, but for
	// gates that begin as filters.
	FilterPref = 157
	// GatePref is that of these.
	GatePref = gate.FilterPref

	// GatePrefix begins the name of every program of ours at a link of ours.
	GatePrefix = gate.Prefix

	// RouteProtocol marks every route (rtnetlink(7), RTA_PROTOCOL), every rule that
	// leads to a table of routes, and every proxy neighbour (NDA_PROTOCOL). Numbers in use by others are in iproute2's rt_protos.
	RouteProtocol = 157

	// NodesTable is the table of routes in which this node's pods find other nodes'
	// addresses. Its number is above those that a byte holds, which people and other
	// networks choose from, and those that are made of an interface's index.
	NodesTable = 157157
	// NodesPriority is that of the rule that leads there: behind the local table (0; 100
	// where Cilium moved it), before whatever else decides on pods' sources (AWS VPC CNI
	// from 512 on, Tailscale from 5210 on, the main table 32766).
	NodesPriority = 157

	// EgressTable is where packets with an Egress address look, which leads to the node
	// that has it; EgressGuardTable is where those of pods do that no rule of nftables
	// looked at: what is inside has its way there, all else is unreachable.
	EgressTable      = 157158
	EgressGuardTable = 157159
	// EgressPriority leads to the first, EgressGuardPriority to the second. Both are behind
	// the way to nodes, which pods keep, and before others that decide on pods' sources,
	// the main table among them: by these, pods would leave unseen. Rules of uplinks have
	// the priorities of the node's own, which may be greater: their packets have a mark in
	// UplinkMask, so the guard has to ask for none in these bits.
	//
	// What comes out of the tunnel is not led back: it goes from EgressArrivedPriority to the
	// guard. So does IPv4's reverse path filter for what goes into the tunnel, since it asks
	// as if the answer had come by the link that the packet leaves by.
	//
	// What the node sends must not meet the guard, nor that filter for what is sent to the
	// node: what comes by lo goes from EgressPassPriority to EgressPassedPriority. For what is
	// forwarded to a pod the filter asks as if the pod sent the answer: it meets the guard, but
	// for a mark, with src_valid_mark.
	EgressArrivedPriority = 158
	EgressPriority        = 159
	EgressPassPriority    = 160
	EgressGuardPriority   = 161
	EgressPassedPriority  = 162
)

// AcceptMark is the comment by which our rules in AcceptPlaces are known.
const AcceptMark = TablePrefix + "forward"

// AcceptPlaces are the chains of iptables-nft(8) in which rules with AcceptMark are
// ours. The chains, and all other rules in them, are somebody else's.
var AcceptPlaces = []nft.Place{
	{Family: nft.IPv4, Table: "filter", Chain: "FORWARD"},
	{Family: nft.IPv6, Table: "filter", Chain: "FORWARD"},
}

// IFBLink is the name of the device that takes what enters by a pod's wire.
func IFBLink(wire string) string {
	const digits = 11
	hash := strings.TrimPrefix(wire, LinkPrefix)
	return LinkPrefix + "i" + hash[:min(len(hash), digits)]
}

// WireMAC is the hardware address of the node's end of every pod's wire. It is
// the same for all, so that what a pod remembers of its gateway stays true when
// the wire is made anew.
var WireMAC = [6]byte{0xee, 0xfa, 0x1e, 0xad, 0x00, 0x01}

// Gateways of every pod, inside its own wire only: link-local, on no interface.
const (
	PodGateway4 = "169.254.1.1"
	PodGateway6 = "fe80::1"
)
