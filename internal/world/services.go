package world

import (
	"net/netip"
	"slices"
)

// A Namespace is a namespace of the cluster.
type Namespace struct {
	Key
	Labels Labels
}

// Equal reports whether n and m say the same.
func (n *Namespace) Equal(m *Namespace) bool { return *n == *m }

// A Service is a name for what a selector selects.
type Service struct {
	Key
	Type        string // ClusterIP, NodePort, LoadBalancer or ExternalName
	ClusterIPs  []netip.Addr
	Ingress     []netip.Addr `json:",omitempty"` // of its load balancer, where packets come with them
	ExternalIPs []netip.Addr `json:",omitempty"` // addresses of others that lead to its ports
	IPv4, IPv6  bool         // the families that it has
	Selector    Labels
	Ports       []ServicePort
	Annotations Labels // those that Fairlead reads
}

// A ServicePort is a port of a Service, and where it leads in its pods.
type ServicePort struct {
	Name       string
	Protocol   byte // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	Port       uint16
	TargetPort uint16 // 0: the container port called TargetName
	TargetName string
}

// Equal reports whether s and t say the same.
func (s *Service) Equal(t *Service) bool {
	return s.Key == t.Key && s.Type == t.Type && s.IPv4 == t.IPv4 && s.IPv6 == t.IPv6 && s.Selector == t.Selector &&
		s.Annotations == t.Annotations && slices.Equal(s.ClusterIPs, t.ClusterIPs) && slices.Equal(s.Ingress, t.Ingress) &&
		slices.Equal(s.ExternalIPs, t.ExternalIPs) && slices.Equal(s.Ports, t.Ports)
}
