package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Types of the conditions of an Egress.
const (
	// ConditionAllocated says whether every address has a number.
	ConditionAllocated = "Allocated"
	// ConditionAssigned says whether every address with a number has a node.
	ConditionAssigned = "Assigned"
	// ConditionDegraded says whether a node cannot do its part.
	ConditionDegraded = "Degraded"
)

// What happens to connections while an Egress has no address at work.
const (
	UnavailableDrop     = "Drop"
	UnavailableFallBack = "FallBack"
)

// MaxEgressIPs is how many addresses an Egress can have.
const MaxEgressIPs = 64

// MaxEgressNumber is the greatest number that an address of an Egress can have.
const MaxEgressNumber = 1<<14 - 1

// An Egress has chosen pods leave the cluster with chosen addresses. Of two that select
// a pod the older one counts for it, and then the first by name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.egressIPs`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.addresses[*].node`
// +kubebuilder:printcolumn:name="Assigned",type=string,JSONPath=`.status.conditions[?(@.type=="Assigned")].status`
// +kubebuilder:printcolumn:name="Degraded",type=string,JSONPath=`.status.conditions[?(@.type=="Degraded")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Egress struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata"`
	Spec              EgressSpec `json:"spec"`
	// +optional
	Status EgressStatus `json:"status,omitzero"`
}

// An EgressList is a list of them.
//
// +kubebuilder:object:root=true
type EgressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []Egress `json:"items"`
}

// EgressSpec is whom an Egress is for, and with which addresses they leave the cluster.
type EgressSpec struct {
	// AppliedTo says which pods the Egress is for.
	AppliedTo EgressAppliedTo `json:"appliedTo"`
	// EgressIPs are the addresses that connections leave the cluster with, IPv4, IPv6 or
	// both, 1 to 64. Each can be in one Egress only, and is no address of a node or a pod.
	//
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:XValidation:rule="isIP(self)",message="is no IP address: write one such as 198.51.100.7 or 2001:db8::7"
	// +kubebuilder:validation:items:XValidation:rule="!isIP(self) || ip(self).isGlobalUnicast()",message="is no address that a connection can have across networks: write one that is not multicast, loopback, link-local or unspecified"
	EgressIPs []string `json:"egressIPs"`
	// ExceptCIDRs are destinations outside the cluster that are reached as without the
	// Egress; at most 1024.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=49
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self)",message="is no CIDR: write an address and a prefix length, such as 192.0.2.0/24"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self).masked() == cidr(self)",message="has bits set behind its prefix: write zeros there, such as in 192.0.2.0/24"
	ExceptCIDRs []string `json:"exceptCIDRs,omitempty"`
	// RandomizePorts chooses source ports at random. Default: as the settings of the node
	// say that has the address.
	//
	// +optional
	RandomizePorts *bool `json:"randomizePorts,omitempty"`
	// PortRange is the range of source ports, LOW-HIGH. Default: as the settings of the
	// node say that has the address.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{1,5}-[0-9]{1,5}$')",message="invalid port range: write LOW-HIGH, such as 32768-60999"
	PortRange *PortRange `json:"portRange,omitempty"`
	// Unavailable is what happens to new connections while the Egress has no address of
	// their family at work: "Drop" (default), or "FallBack" (as without the Egress).
	//
	// +optional
	// +kubebuilder:validation:Enum=Drop;FallBack
	Unavailable *string `json:"unavailable,omitempty"`
}

// EgressAppliedTo selects pods: those that PodSelector selects, in namespaces that
// NamespaceSelector selects. One that is left out selects all; with neither, no pod is
// selected.
type EgressAppliedTo struct {
	// NamespaceSelector selects namespaces by their labels; {} selects all.
	//
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// PodSelector selects pods by their labels; {} selects all.
	//
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`
}

// EgressStatus is what became of an Egress.
type EgressStatus struct {
	// Addresses are those of spec.egressIPs that have a number.
	//
	// +optional
	// +listType=map
	// +listMapKey=ip
	// +kubebuilder:validation:MaxItems=64
	Addresses []EgressAddress `json:"addresses,omitempty"`
	// Conditions of the object. Allocated is True if every address has a number, and
	// Assigned if every address with a number has a node; otherwise their messages name
	// addresses and what is the matter. Degraded is True while a node cannot do its part.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// An EgressAddress is an address of an Egress, and where it is.
type EgressAddress struct {
	// IP address.
	//
	// +kubebuilder:validation:MaxLength=45
	IP string `json:"ip"`
	// Number of the address, which no other has: nodes tell each other by it which
	// address a packet leaves with.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16383
	Number int `json:"number"`
	// Node that has the address. Absent while none can have it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node,omitempty"`
	// Since when the node has had it.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
}
