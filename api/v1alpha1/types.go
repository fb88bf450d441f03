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
	s.AddKnownTypes(gv, &AgentConfig{}, &AgentConfigList{}, &FairleadNode{}, &FairleadNodeList{})
	metav1.AddToGroupVersion(s, gv)
	return nil
}

// DefaultConfig is the name of the AgentConfig that applies to every node. One
// named after a node applies to that node, field by field over the default.
const DefaultConfig = "default"

// An AgentConfig holds the settings of the agents.
//
// +kubebuilder:object:root=true
type AgentConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AgentConfigSpec `json:"spec"`
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
type AgentConfigSpec struct {
	// Overlay says how packets travel between nodes.
	Overlay *Overlay `json:"overlay,omitempty"`
	// NodeSNATRandomizePorts chooses source ports at random for pods that leave
	// the cluster with the node's address. Default false.
	NodeSNATRandomizePorts *bool `json:"nodeSNATRandomizePorts,omitempty"`
	// NodeSNATPortRange is where these ports come from: "auto" (default; the
	// node's ip_local_port_range less NodePort, NodePortLocal and
	// ip_local_reserved_ports), LOW-HIGH, or "kernel" (1024-65535).
	NodeSNATPortRange *string `json:"nodeSNATPortRange,omitempty"`
	// NonMasqueradeCIDRs are destinations outside the cluster towards which pods
	// keep their own addresses.
	NonMasqueradeCIDRs []string `json:"nonMasqueradeCIDRs,omitempty"`
	// NodePortLocal sets aside ports of the node for single pods.
	NodePortLocal *NodePortLocal `json:"nodePortLocal,omitempty"`
	// NodeSNATPortBlock is how many ports of that range each pod has to itself, 1
	// to 32768; 0 (default): all pods share the range.
	NodeSNATPortBlock *int `json:"nodeSNATPortBlock,omitempty"`
	// DisableTXChecksumOffload has the CPU fill in the checksums of packets that
	// enter the tunnel, for interfaces that get them wrong. Default false.
	DisableTXChecksumOffload *bool `json:"disableTXChecksumOffload,omitempty"`
	// EgressSNATRandomizePorts, EgressSNATPortRange and Policy are names that are
	// settled for what is still to come. Any value but the default is a problem.
	EgressSNATRandomizePorts *bool   `json:"egressSNATRandomizePorts,omitempty"`
	EgressSNATPortRange      *string `json:"egressSNATPortRange,omitempty"`
	Policy                   *Policy `json:"policy,omitempty"`
	// Features switches single features off: NAME: false.
	Features map[string]bool `json:"features,omitempty"`
}

// Overlay says how packets travel between nodes.
type Overlay struct {
	// Mode is the way to other nodes' pods: "vxlan" (default; in a tunnel), "direct"
	// (by routes to the nodes' addresses), "hybrid" (direct to nodes on the same
	// network, in a tunnel to others) or "none" (another CNI owns the pod network).
	Mode *string `json:"mode,omitempty"`
	// Interface is the one whose address carries the overlay: its name, a pattern
	// such as "eth*", or a CIDR that has its address. Default: the one with the
	// node's first InternalIP.
	Interface *string `json:"interface,omitempty"`
	// Encryption is "none" so far.
	Encryption *string `json:"encryption,omitempty"`
	// VNI is the VXLAN network identifier, 1 to 16777215. Default 1.
	VNI *int `json:"vni,omitempty"`
	// Port is the UDP port of the overlay, 1 to 65535. Default 4789.
	Port *int `json:"port,omitempty"`
	// MTU of the pod network in bytes, 1280 to 65535; 0 (default) derives it from
	// the interface that carries the overlay.
	MTU *int `json:"mtu,omitempty"`
}

// NodePortLocal sets aside ports of the node for single pods.
type NodePortLocal struct {
	// Enabled keeps the ports out of the automatic SNAT range. Default true.
	Enabled *bool `json:"enabled,omitempty"`
	// PortRange is LOW-HIGH. Default 61000-62000.
	PortRange *string `json:"portRange,omitempty"`
}

// Policy says what becomes of connections when policies change.
type Policy struct {
	OnNewDenial *string `json:"onNewDenial,omitempty"`
}

// A FairleadNode is what the agent of a node tells the cluster.
//
// +kubebuilder:object:root=true
type FairleadNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Status            FairleadNodeStatus `json:"status"`
}

// A FairleadNodeList is a list of them.
//
// +kubebuilder:object:root=true
type FairleadNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []FairleadNode `json:"items"`
}

// FairleadNodeStatus is what the agent of a node last saw and did.
type FairleadNodeStatus struct {
	// ObservedRevision and AppliedRevision are those of the objects' source that
	// the agent last read and last made true.
	ObservedRevision int64 `json:"observedRevision"`
	AppliedRevision  int64 `json:"appliedRevision"`
	// OverlayAddresses carry the node's end of the overlay, at most one of each
	// family, that of the tunnel first. Absent where overlay.interface is not set:
	// the Node's InternalIPs do then.
	OverlayAddresses []string `json:"overlayAddresses,omitempty"`
	// Version of the agent.
	Version string `json:"version,omitempty"`
	// Conditions of the node's network.
	//
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Problems in objects, as this node sees them.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Problems []Problem `json:"problems,omitempty"`
	// MoreProblems is how many there are besides those listed.
	MoreProblems int64 `json:"moreProblems,omitempty"`
	// Capabilities of the node's kernel, as the agent tried them out when it started.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Capabilities []Capability `json:"capabilities,omitempty"`
	// Counters are told some minutes late when nothing else changes.
	Counters Counters `json:"counters,omitzero"`
}

// MaxProblems is how many problems a FairleadNode lists.
const MaxProblems = 100

// A Capability is what the kernel of a node can do, or cannot.
type Capability struct {
	// Name of the capability, such as FullyRandomPorts.
	Name string `json:"name"`
	// Available: the agent has seen the kernel do it.
	Available bool `json:"available"`
	// Reason why not, where it is not available.
	Reason string `json:"reason,omitempty"`
}

// Counters are a few figures of a node. All others are metrics of its agent.
type Counters struct {
	// Attachments are the pods' interfaces that are wired to the node.
	Attachments int64 `json:"attachments,omitempty"`
	// Peers are the other nodes that the agent knows.
	Peers int64 `json:"peers,omitempty"`
	// DriftRepairs is what others changed of Fairlead's in the kernel and was put
	// back, since the agent started.
	DriftRepairs int64 `json:"driftRepairs,omitempty"`
	// SNATPortUsePercent is the part of the source ports, 0 to 100, that the fullest
	// destination takes.
	SNATPortUsePercent int64 `json:"snatPortUsePercent,omitempty"`
}

// A Problem is a mistake in an object, in words.
type Problem struct {
	Object string `json:"object"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"`
	Source string `json:"source,omitempty"`
}
