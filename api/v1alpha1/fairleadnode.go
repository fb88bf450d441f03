package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// A FairleadNode is the status that the agent of a node reports to the cluster.
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
	// ObservedRevision is the revision of the objects' source that the agent last
	// read.
	ObservedRevision int64 `json:"observedRevision"`
	// AppliedRevision is the revision that the agent last applied.
	AppliedRevision int64 `json:"appliedRevision"`
	// OverlayAddresses are the node's addresses that carry the overlay, at most one
	// of each family, that of the tunnel first. Absent if overlay.interface is not
	// set: then peers use the Node's InternalIPs.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MaxLength=64
	OverlayAddresses []string `json:"overlayAddresses,omitempty"`
	// Overlay has the overlay settings in force on the node. Other agents compare
	// them with theirs.
	Overlay *OverlayInForce `json:"overlay,omitempty"`
	// Version of the agent.
	//
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// Conditions of the node's network.
	//
	// +kubebuilder:validation:MaxItems=16
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ObjectReports are what this node contributes to the conditions of other objects;
	// the controller makes those of all nodes' reports. A node with several findings
	// about one object reports each: the first about every object first, then as many
	// as fit.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	ObjectReports []ObjectReport `json:"objectReports,omitempty"`
	// MoreObjectReports is the number of reports that are not listed.
	MoreObjectReports int64 `json:"moreObjectReports,omitempty"`
	// Problems are configuration errors in objects, as this node sees them: those of
	// the whole node first, then as many as fit.
	//
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	Problems []Problem `json:"problems,omitempty"`
	// MoreProblems is the number of problems that are not listed.
	MoreProblems int64 `json:"moreProblems,omitempty"`
	// Capabilities of the node's kernel, as the agent tested them when it started.
	//
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Capabilities []Capability `json:"capabilities,omitempty"`
	// Counters are updated some minutes late if nothing else changes.
	//
	// +optional
	Counters Counters `json:"counters,omitzero"`
}

// OverlayInForce is how a node's packets travel to others: its settings, with every
// default filled in.
type OverlayInForce struct {
	// Mode is how packets reach other nodes' pods. With "none" the other fields are
	// absent.
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

// MaxObjectReports is how many reports about other objects a FairleadNode lists.
const MaxObjectReports = 100

// An ObjectReport says what one node finds about an object.
type ObjectReport struct {
	// Object that it is about: its kind, and its name or NAMESPACE/NAME.
	//
	// +kubebuilder:validation:MaxLength=384
	Object string `json:"object"`
	// Type of the condition that it contributes to.
	//
	// +kubebuilder:validation:MaxLength=64
	Type string `json:"type"`
	// Status is whether the condition holds as far as this node is concerned.
	//
	// +kubebuilder:validation:Enum=True;False;Unknown
	Status metav1.ConditionStatus `json:"status"`
	// ObservedGeneration is the generation of the object that it is about.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Reason in one CamelCase word.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?$`
	Reason string `json:"reason"`
	// Message for people.
	//
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// MaxProblems is how many problems a FairleadNode lists.
const MaxProblems = 100

// A Capability is what the kernel of a node can do, or cannot.
type Capability struct {
	// Name of the capability, such as FullyRandomPorts.
	//
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name"`
	// Available is true if the agent's test succeeded.
	Available bool `json:"available"`
	// Reason why it is not available.
	//
	// +kubebuilder:validation:MaxLength=512
	Reason string `json:"reason,omitempty"`
}

// Counters are a few figures of a node. All others are metrics of its agent.
type Counters struct {
	// Attachments is the number of pods' interfaces that are attached on the node.
	Attachments int64 `json:"attachments,omitempty"`
	// Peers is the number of other nodes that the agent knows.
	Peers int64 `json:"peers,omitempty"`
	// DriftRepairs is the number of changes by others to what is Fairlead's in the
	// kernel that the agent has repaired since it started.
	DriftRepairs int64 `json:"driftRepairs,omitempty"`
	// SNATPortUsePercent is the share of the source ports, 0 to 100, in use towards
	// the fullest destination.
	SNATPortUsePercent int64 `json:"snatPortUsePercent,omitempty"`
}

// A Problem is a configuration error in an object, in words.
type Problem struct {
	// Object with the error: its kind, and its name or NAMESPACE/NAME.
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
	// Hint is what to do about it.
	//
	// +kubebuilder:validation:MaxLength=512
	Hint string `json:"hint,omitempty"`
	// Source is the file that the object was read from, if it was a file.
	//
	// +kubebuilder:validation:MaxLength=384
	Source string `json:"source,omitempty"`
}
