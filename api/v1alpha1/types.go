// Package v1alpha1 is Fairlead's API group fairlead.dev/v1alpha1: the kinds that
// operators write and read, and nothing else.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and version of every kind in this package.
const (
	Group      = "fairlead.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)

// AddToScheme makes s know the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	gv := schema.GroupVersion{Group: Group, Version: Version}
	s.AddKnownTypes(gv, &AgentConfig{}, &AgentConfigList{}, &FairleadNode{}, &FairleadNodeList{}, &Egress{}, &EgressList{})
	metav1.AddToGroupVersion(s, gv)
	return nil
}

// DefaultConfig is the name of the AgentConfig that applies to every node. One
// named after a node applies to that node, field by field over the default.
const DefaultConfig = "default"

// ConditionAccepted is the type of the condition that says whether an AgentConfig is
// without mistakes.
const ConditionAccepted = "Accepted"

// An AgentConfig holds the settings of the agents: of all nodes if it is named
// default, or of one node if it is named after that node.
//
// The schema has no defaults. A field that is left out of a node's AgentConfig has
// the value of the default AgentConfig.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=flconfig,categories=fairlead
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Accepted")].message`
type AgentConfig struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata"`
	// +optional
	Spec AgentConfigSpec `json:"spec"`
	// +optional
	Status AgentConfigStatus `json:"status,omitzero"`
}

// AgentConfigStatus is what became of an AgentConfig.
type AgentConfigStatus struct {
	// Conditions of the object. Accepted is True while no node finds an error in it.
	// Otherwise its message names the field, what is wrong, and on how many nodes.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// An AgentConfigList is a list of them.
//
// +kubebuilder:object:root=true
type AgentConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []AgentConfig `json:"items"`
}

// AgentConfigSpec is what an AgentConfig sets; a field left out keeps its
// default.
//
// +kubebuilder:validation:XValidation:fieldPath=".nodeSNATPortBlock",rule="!has(self.nodeSNATPortBlock) || !has(self.nodeSNATPortRange) || !self.nodeSNATPortRange.matches('^[0-9]{1,5}-[0-9]{1,5}$') || self.nodeSNATPortBlock <= int(self.nodeSNATPortRange.split('-')[1]) - int(self.nodeSNATPortRange.split('-')[0]) + 1",message="is more ports than nodeSNATPortRange has: write a smaller nodeSNATPortBlock, or a wider nodeSNATPortRange"
// +kubebuilder:validation:XValidation:fieldPath=".features",rule="!has(self.overlay) || !has(self.overlay.mode) || self.overlay.mode != 'none' || !has(self.features) || ['forward', 'guard', 'hostport', 'overlay', 'pod'].all(f, !(f in self.features) || !self.features[f])",message="forward, guard, hostport, overlay and pod cannot be on while overlay.mode is none: leave them out, or write another mode"
type AgentConfigSpec struct {
	// Overlay says how packets travel between nodes.
	// +optional
	Overlay *Overlay `json:"overlay,omitempty"`
	// NodeSNATRandomizePorts chooses source ports at random for pods' connections
	// that leave the cluster with the node's address. Default true where pods read
	// one clock for timestamps (podTCPTimestamps: monotonic), else false: pods' own
	// ports are kept where they are free.
	// +optional
	NodeSNATRandomizePorts *bool `json:"nodeSNATRandomizePorts,omitempty"`
	// NodeSNATPortRange is the range of pods' source ports: "auto" (default; the node's
	// ip_local_port_range without NodePort, NodePortLocal and
	// ip_local_reserved_ports), LOW-HIGH, or "kernel" (1024-65535).
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['auto', 'kernel'] || self.matches('^[0-9]{1,5}-[0-9]{1,5}$')",message="invalid port range: write LOW-HIGH, such as 32768-60999, or auto, or kernel"
	NodeSNATPortRange *PortRange `json:"nodeSNATPortRange,omitempty"`
	// NonMasqueradeCIDRs are destinations outside the cluster towards which pods
	// keep their own addresses; at most 1024.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="is no CIDR: write an address and a prefix length, such as 192.0.2.0/24"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self).masked() == cidr(self)",message="has bits set behind its prefix: write zeros there, such as in 192.0.2.0/24"
	NonMasqueradeCIDRs []string `json:"nonMasqueradeCIDRs,omitempty"`
	// ClusterCIDRs limit the pod CIDRs and addresses of other nodes; at most 1024.
	// List the pods' networks. If this node's address is in the list, other nodes'
	// addresses must be too. Default: anything but what the node itself uses.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="is no CIDR: write an address and a prefix length, such as 10.244.0.0/16"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self).masked() == cidr(self)",message="has bits set behind its prefix: write zeros there, such as in 10.244.0.0/16"
	ClusterCIDRs []string `json:"clusterCIDRs,omitempty"`
	// NodePortLocal allocates ports of the node to pods that Services select.
	// +optional
	NodePortLocal *NodePortLocal `json:"nodePortLocal,omitempty"`
	// NodeSNATPortBlock is the number of ports of nodeSNATPortRange that each pod has to
	// itself, 1 to 32768; 0 (default): all pods share the range.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32768
	NodeSNATPortBlock *int `json:"nodeSNATPortBlock,omitempty"`
	// DisableTXChecksumOffload turns off transmit checksum offload for the tunnel,
	// for interfaces that compute these checksums wrongly. Default false.
	// +optional
	DisableTXChecksumOffload *bool `json:"disableTXChecksumOffload,omitempty"`
	// CNI has settings of the CNI configuration that the agent installs.
	// +optional
	CNI *CNI `json:"cni,omitempty"`
	// AcceptForwarding keeps two rules at the top of each family's FORWARD chain of
	// nftables-backed iptables. They accept packets from pods and to pods, for nodes
	// whose policy there is DROP, as Docker sets it. Default false.
	// +optional
	AcceptForwarding *bool `json:"acceptForwarding,omitempty"`
	// PodTCPTimestamps chooses the base of pods' TCP timestamps. "monotonic"
	// (default): all pods of a node read one clock, so that a server in TIME_WAIT
	// accepts a reused source port; it also learns how long the node has been up.
	// "random": every address pair or connection has an offset of its own. "keep": as
	// the kernel and each pod have it. A pod with a value of its own keeps it.
	// +optional
	// +kubebuilder:validation:Enum=monotonic;random;keep
	PodTCPTimestamps *string `json:"podTCPTimestamps,omitempty"`
	// PodTCPReuse lets pods reuse a port for a new connection while their own end of
	// the last one is in TIME_WAIT, if timestamps allow (net.ipv4.tcp_tw_reuse=1).
	// Default false: as the kernel and each pod have it.
	// +optional
	PodTCPReuse *bool `json:"podTCPReuse,omitempty"`
	// HostTCPTimestamps is PodTCPTimestamps for connections of the node: "monotonic",
	// "random" or "keep" (default).
	// +optional
	// +kubebuilder:validation:Enum=monotonic;random;keep
	HostTCPTimestamps *string `json:"hostTCPTimestamps,omitempty"`
	// HostTCPReuse is PodTCPReuse for connections of the node itself. Default false: as
	// the node has it.
	// +optional
	HostTCPReuse *bool `json:"hostTCPReuse,omitempty"`
	// EgressSNATRandomizePorts is NodeSNATRandomizePorts for connections that leave with
	// an address of an Egress that does not set randomizePorts. Default: as
	// nodeSNATRandomizePorts.
	// +optional
	EgressSNATRandomizePorts *bool `json:"egressSNATRandomizePorts,omitempty"`
	// EgressSNATPortRange is the range of source ports of Egresses that do not set
	// portRange: "auto" (default; as of nodeSNATPortRange), LOW-HIGH, or "kernel"
	// (1024-65535).
	// +optional
	// +kubebuilder:validation:XValidation:rule="self in ['auto', 'kernel'] || self.matches('^[0-9]{1,5}-[0-9]{1,5}$')",message="invalid port range: write LOW-HIGH, such as 32768-60999, or auto, or kernel"
	EgressSNATPortRange *PortRange `json:"egressSNATPortRange,omitempty"`
	// Policy says what happens to connections when network policies change.
	// +optional
	Policy *Policy `json:"policy,omitempty"`
	// Features switches single features off: NAME: false. They are egress, forward, guard,
	// hostport, nodeportlocal, overlay, pod, snat and uplink.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(f, f in ['egress', 'forward', 'guard', 'hostport', 'nodeportlocal', 'overlay', 'pod', 'snat', 'uplink'])",message="names what is no feature: features are egress, forward, guard, hostport, nodeportlocal, overlay, pod, snat, uplink"
	Features map[string]bool `json:"features,omitempty"`
}

// CNI has settings of the CNI configuration that the agent installs.
type CNI struct {
	// Exclusive removes other plugins from the agent's network configuration. With
	// false it keeps plugins that others append there, such as a mesh's: the runtime
	// calls them after Fairlead. Default true.
	// +optional
	Exclusive *bool `json:"exclusive,omitempty"`
}

// A PortRange is LOW-HIGH: two ports from 1 to 65535, the lower one first.
//
// +kubebuilder:validation:MaxLength=11
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,5}-[0-9]{1,5}$') || self.split('-').all(p, int(p) >= 1 && int(p) <= 65535)",message="invalid port range: ports are 1 to 65535"
// +kubebuilder:validation:XValidation:rule="!self.matches('^[0-9]{1,5}-[0-9]{1,5}$') || int(self.split('-')[0]) <= int(self.split('-')[1])",message="invalid port range: write the lower port first"
type PortRange = string

// Overlay says how packets travel between nodes.
type Overlay struct {
	// Mode is how packets reach other nodes' pods: "vxlan" (default; in a tunnel),
	// "direct" (by routes to the nodes' addresses), "hybrid" (direct to nodes on the
	// same network, in a tunnel to others) or "none" (another CNI owns the pod
	// network).
	// +optional
	// +kubebuilder:validation:Enum=vxlan;direct;hybrid;none
	Mode *string `json:"mode,omitempty"`
	// Interface whose address carries the overlay: its name, a pattern such as "eth*"
	// or "eth[0-3]", or a CIDR that contains its address. Default: the interface with
	// the node's first InternalIP.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.contains('/') || isCIDR(self)",message="is no CIDR: write an address and a prefix length, such as 192.0.2.0/24"
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).masked() == cidr(self)",message="has bits set behind its prefix: write zeros there, such as in 192.0.2.0/24"
	// +kubebuilder:validation:XValidation:rule="!isIP(self)",message="is an address: write a CIDR that has it, such as 192.0.2.1/32"
	// +kubebuilder:validation:XValidation:rule=`self.contains('/') || isIP(self) || self.matches(r'^([^\[\\^:\s]|\[([^\]\\^:\s-](-[^\]\\^:\s-])?)+\])*$')`,message="is no pattern of names: write a name such as eth0, a pattern such as eth*, or a CIDR"
	Interface *string `json:"interface,omitempty"`
	// Encryption is "none" so far.
	// +optional
	// +kubebuilder:validation:Enum=none
	Encryption *string `json:"encryption,omitempty"`
	// VNI is the VXLAN network identifier, 1 to 16777215. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	VNI *int `json:"vni,omitempty"`
	// Port is the UDP port of the overlay, 1 to 65535. Default 4789.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int `json:"port,omitempty"`
	// MTU of the pod network in bytes, 1280 to 65535; 0 (default) derives it from the
	// paths to the other nodes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:validation:XValidation:rule="self == 0 || self >= 1280",message="is too small: write 1280 to 65535, or 0 to derive it"
	MTU *int `json:"mtu,omitempty"`
}

// NodePortLocal allocates ports of the node to pods that Services select.
type NodePortLocal struct {
	// Enabled turns NodePortLocal on, and keeps its ports out of the automatic SNAT
	// range. Default true.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// PortRange is LOW-HIGH. It should share no ports with
	// net.ipv4.ip_local_port_range and with the ports of Services. Default
	// 61000-62000.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{1,5}-[0-9]{1,5}$')",message="invalid port range: write LOW-HIGH, such as 61000-62000"
	PortRange *PortRange `json:"portRange,omitempty"`
	// MaxPerPod is the largest number of mappings of a pod, 1 to 2000; each family
	// and protocol counts. Default 100.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2000
	MaxPerPod *int `json:"maxPerPod,omitempty"`
	// MaxPerNamespace is the largest number of mappings of the pods of one namespace
	// on each node, 1 to 393210. Default 1000.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=393210
	MaxPerNamespace *int `json:"maxPerNamespace,omitempty"`
}

// Policy says what happens to connections when network policies change.
type Policy struct {
	// OnNewDenial says whether a connection that a new policy denies continues: only
	// "keep" so far.
	// +optional
	// +kubebuilder:validation:Enum=keep
	OnNewDenial *string `json:"onNewDenial,omitempty"`
}
