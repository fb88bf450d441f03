package world

import (
	"fmt"
	"net/netip"
	"slices"
)

// Config is the settings in force on a node: every default filled in.
type Config struct {
	Overlay            Overlay
	NodeSNAT           SNAT
	EgressSNAT         SNAT // of Egresses that say nothing themselves; it has no Block
	NonMasqueradeCIDRs []netip.Prefix
	ClusterCIDRs       []netip.Prefix // what peers may have; none: what the node uses itself they may not
	NodePortLocal      NodePortLocal
	DisabledFeatures   []string // sorted
	// DisableTXChecksumOffload has the CPU fill in the checksums of packets that
	// enter the tunnel, for interfaces that get them wrong.
	DisableTXChecksumOffload bool
	// AcceptForwarding keeps rules in the FORWARD chains of iptables-nft that accept
	// pods' packets.
	AcceptForwarding bool
	// CNIShared: plugins that others append to our network configuration stay there.
	CNIShared bool
	// PodTCP and NodeTCP are wanted of pods' network namespaces and of the node's.
	PodTCP, NodeTCP TCP
}

// Equal reports whether c and d say the same.
func (c *Config) Equal(d *Config) bool {
	return c.Overlay == d.Overlay && c.AcceptForwarding == d.AcceptForwarding && c.NodeSNAT == d.NodeSNAT && c.EgressSNAT == d.EgressSNAT && c.NodePortLocal == d.NodePortLocal && c.PodTCP == d.PodTCP && c.NodeTCP == d.NodeTCP &&
		c.DisableTXChecksumOffload == d.DisableTXChecksumOffload && c.CNIShared == d.CNIShared &&
		slices.Equal(c.NonMasqueradeCIDRs, d.NonMasqueradeCIDRs) && slices.Equal(c.ClusterCIDRs, d.ClusterCIDRs) && slices.Equal(c.DisabledFeatures, d.DisabledFeatures)
}

// A Switch is the name of a feature that can be switched off.
type Switch struct {
	Name string
	// PodNetwork: it makes pods a network. Where another CNI owns that it stays out of its
	// way.
	PodNetwork bool
}

// Enabled reports whether the named feature is switched on.
func (c *Config) Enabled(feature string) bool { return !slices.Contains(c.DisabledFeatures, feature) }

// HasOverlay reports whether there is an overlay between the nodes: a name that this
// package knows, since nodes tell one another.
func (c *Config) HasOverlay() bool { return c.Overlay.Mode != None && c.Enabled("overlay") }

// Overlay says how packets travel between nodes.
type Overlay struct {
	Mode      OverlayMode
	Interface InterfaceChoice // whose address carries the overlay
	VNI       int
	Port      int
	MTU       int // of the pod network; 0: derived from the outer interface
}

// OverlayMode is the way to other nodes' pods.
type OverlayMode string

// The modes of an overlay.
const (
	VXLAN  OverlayMode = "vxlan"  // in a tunnel
	Direct OverlayMode = "direct" // by routes to the nodes' own addresses
	Hybrid OverlayMode = "hybrid" // by routes to nodes on the same network, in a tunnel to others
	None   OverlayMode = "none"   // another CNI owns the pod network
)

// An InterfaceChoice says which interface carries the overlay: one by name or
// pattern (path.Match), or one with an address in a CIDR. The zero choice is the
// interface with the node's first address.
type InterfaceChoice struct {
	Pattern string
	CIDR    netip.Prefix
}

// String is the choice as written in an AgentConfig.
func (c InterfaceChoice) String() string {
	if c.CIDR.IsValid() {
		return c.CIDR.String()
	}
	return c.Pattern
}

// SNAT says how source ports are chosen for pods that leave the cluster.
type SNAT struct {
	Randomize bool
	Asked     bool // somebody said so, or the contrary; else see feature/snat
	Ports     PortChoice
	Block     int // ports that each pod has to itself; 0: all share the range
}

// A PortChoice says which source ports SNAT may use.
type PortChoice struct {
	Mode  PortMode
	Range PortRange // for PortsFixed
}

// PortMode is how the range of a PortChoice is found.
type PortMode int

// The modes of a PortChoice.
const (
	PortsAuto   PortMode = iota // the node's own ephemeral range, less what others need
	PortsFixed                  // the range given
	PortsKernel                 // no range: the kernel's choice
)

// String is the choice as written in an AgentConfig.
func (c PortChoice) String() string {
	switch c.Mode {
	case PortsAuto:
		return "auto"
	case PortsKernel:
		return "kernel"
	default:
		return c.Range.String()
	}
}

// Annotations of NodePortLocal, with the names that load-balancer controllers in
// the field know.
const (
	NodePortLocalPorts   = "nodeportlocal.antrea.io"         // of a Pod: which ports of the node lead to it
	NodePortLocalEnabled = "nodeportlocal.antrea.io/enabled" // of a Service: "true" selects its pods
)

// NodePortLocal is the part of the node's ports that NodePortLocal hands out.
type NodePortLocal struct {
	Enabled bool
	Ports   PortRange
	// At most so many mappings of one pod, and of all pods that a namespace has on the
	// node. Those of each family and protocol count.
	MaxPerPod, MaxPerNamespace int
}

// A PortRange is an inclusive range of ports.
type PortRange struct{ Low, High uint16 }

// String is the range as LOW-HIGH.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.Low, r.High) }

// Len is the number of ports in r.
func (r PortRange) Len() int { return int(r.High) - int(r.Low) + 1 }

// Contains reports whether p is in r.
func (r PortRange) Contains(p uint16) bool { return r.Low <= p && p <= r.High }

// Without returns what is left of r when the others are taken out, in order.
func (r PortRange) Without(others ...PortRange) []PortRange {
	left := []PortRange{r}
	for _, o := range others {
		var next []PortRange
		for _, l := range left {
			if o.High < l.Low || l.High < o.Low {
				next = append(next, l)
				continue
			}
			if l.Low < o.Low {
				next = append(next, PortRange{l.Low, o.Low - 1})
			}
			if o.High < l.High {
				next = append(next, PortRange{o.High + 1, l.High})
			}
		}
		left = next
	}
	return left
}
