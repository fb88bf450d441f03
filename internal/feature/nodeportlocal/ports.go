package nodeportlocal

import (
	"cmp"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// Allocated are they, in the world.
const Allocated = world.Own[NodePorts]("NodePorts")

// NodePorts are the ports of the node that lead to ports of pods: who was given which.
type NodePorts struct {
	List  []NodePort   `json:"list"`            // sorted, as Compare says
	Freed []world.Port `json:"freed,omitempty"` // given back, the longest ago first
}

// A NodePort is a port of the node that leads to a port of a pod, of its own
// family and protocol.
type NodePort struct {
	world.Port
	Pod     world.Key `json:"pod"`
	UID     string    `json:"uid,omitempty"`
	PodPort uint16    `json:"podPort"`
}

// Compare orders node ports by what they lead to; no two lead to the same.
func (p NodePort) Compare(q NodePort) int {
	return cmp.Or(p.Pod.Compare(q.Pod), cmp.Compare(p.UID, q.UID), cmp.Compare(p.PodPort, q.PodPort),
		cmp.Compare(p.Protocol, q.Protocol), familyOrder(p.IPv6)-familyOrder(q.IPv6))
}

// Equal reports whether p and q say the same.
func (p *NodePorts) Equal(q *NodePorts) bool {
	return p == q || slices.Equal(p.List, q.List) && slices.Equal(p.Freed, q.Freed)
}
