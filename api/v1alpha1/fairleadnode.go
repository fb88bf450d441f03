package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// A FairleadNode is what the agent of a node tells the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=flnode,categories=fairlead
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Observed",type=integer,JSONPath=`.status.observedRevision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type FairleadNode struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata"`
	// +optional
	Status FairleadNodeStatus `json:"status"`
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
	// ObservedRevision is that of the objects' source that the agent last read.
	ObservedRevision int64 `json:"observedRevision"`
	// AppliedRevision is the one that it last made true.
	AppliedRevision int64 `json:"appliedRevision"`
	// OverlayAddresses carry the node's end of the overlay, at most one of each
	// family, that of the tunnel first. Absent where overlay.interface is not set:
	// the Node's InternalIPs do then.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=64
	OverlayAddresses []string `json:"overlayAddresses,omitempty"`
	// Overlay is what is in force on the node. Other agents compare it with theirs.
	Overlay *OverlayInForce `json:"overlay,omitempty"`
	// Version of the agent.
	//
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// ObservedConfigs are the AgentConfigs that make up the node's settings, as the
	// agent last read them.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=2
	ObservedConfigs []ObservedConfig `json:"observedConfigs,omitempty"`
	// Conditions of the node's network.
	//
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Problems in objects, as this node sees them: first those of the whole node, and as
	// many as have room.
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
	//
	// +optional
	Counters Counters `json:"counters,omitzero"`
}

// OverlayInForce is how a node's packets travel to others: its settings, with every
// default filled in.
type OverlayInForce struct {
	// Mode is the way to other nodes' pods. With "none" there is nothing else.
	//
	// +kubebuilder:validation:Enum=vxlan;direct;hybrid;none
	Mode string `json:"mode"`
	// Port is the UDP port of the tunnel.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int `json:"port,omitempty"`
	// VNI is the VXLAN network identifier.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16777215
	VNI int `json:"vni,omitempty"`
	// MTU of the pod network in bytes.
	MTU int `json:"mtu,omitempty"`
	// Encryption of the tunnel.
	//
	// +kubebuilder:validation:Enum=none
	Encryption string `json:"encryption,omitempty"`
}

// An ObservedConfig is an AgentConfig that an agent has read.
type ObservedConfig struct {
	// Name of the AgentConfig.
	//
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Generation that was read.
	Generation int64 `json:"generation"`
}

// MaxProblems is how many problems a FairleadNode lists.
const MaxProblems = 100

// A Capability is what the kernel of a node can do, or cannot.
type Capability struct {
	// Name of the capability, such as FullyRandomPorts.
	//
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`
	// Available: the agent has seen the kernel do it.
	Available bool `json:"available"`
	// Reason why not, where it is not available.
	//
	// +kubebuilder:validation:MaxLength=512
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
	// Object that the mistake is in: its kind, and its name or NAMESPACE/NAME.
	//
	// +kubebuilder:validation:MaxLength=384
	Object string `json:"object"`
	// Field of the object, such as spec.nodeSNATPortRange.
	//
	// +kubebuilder:validation:MaxLength=384
	Field string `json:"field,omitempty"`
	// Reason is what is wrong.
	//
	// +kubebuilder:validation:MaxLength=512
	Reason string `json:"reason"`
	// Hint is the way out.
	//
	// +kubebuilder:validation:MaxLength=512
	Hint string `json:"hint,omitempty"`
	// Source is the file that the object was read from, where it was one.
	//
	// +kubebuilder:validation:MaxLength=384
	Source string `json:"source,omitempty"`
}
