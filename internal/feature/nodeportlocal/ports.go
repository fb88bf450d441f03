package nodeportlocal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"

	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// Allocated are they, in the world.
const Allocated = world.Own[NodePorts]("NodePorts")

// NodePorts are the ports of the node that lead to ports of pods: who was given which.
// There may be 50,000 of them.
type NodePorts struct {
	List  sorted.List[NodePort] // in the order of [NodePort.Compare]
	Freed []world.Port          // given back, the longest ago first
}

// SortedNodePorts returns a list of the given ports, which it sorts.
func SortedNodePorts(list ...NodePort) sorted.List[NodePort] {
	return sorted.Of(list, NodePort.Compare)
}

// nodePortsFile is what NodePorts are in JSON.
type nodePortsFile struct {
	List  []NodePort   `json:"list"`
	Freed []world.Port `json:"freed,omitempty"`
}

// MarshalJSON writes the list as one.
func (p *NodePorts) MarshalJSON() ([]byte, error) {
	return json.Marshal(nodePortsFile{slices.AppendSeq([]NodePort{}, p.List.All()), p.Freed}) // also an empty one is a list
}

// UnmarshalJSON reads what MarshalJSON wrote, and nothing else.
func (p *NodePorts) UnmarshalJSON(text []byte) error {
	var f nodePortsFile
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return err
	}
	if !slices.IsSortedFunc(f.List, NodePort.Compare) {
		return errors.New("the ports of the node are out of order, which nobody wrote")
	}
	p.List, p.Freed = SortedNodePorts(f.List...), f.Freed
	return nil
}

// A NodePort is a port of the node that leads to a port of a pod, of its own
// family and protocol.
type NodePort struct {
	world.Port
	Pod     world.Key `json:"pod"`
	UID     string    `json:"uid,omitempty"`
	PodPort uint16    `json:"podPort"`
}

// Compare orders node ports by what they lead to; no two lead to the same. Those of
// pods that nobody knows come first, in the order of their numbers.
func (p NodePort) Compare(q NodePort) int {
	c := cmp.Or(p.Pod.Compare(q.Pod), cmp.Compare(p.UID, q.UID), cmp.Compare(p.PodPort, q.PodPort),
		cmp.Compare(p.Protocol, q.Protocol), familyOrder(p.IPv6)-familyOrder(q.IPv6))
	if c == 0 && p.Pod.Name == "" {
		return cmp.Compare(p.Number, q.Number)
	}
	return c
}

// Equal reports whether p and q say the same.
func (p *NodePorts) Equal(q *NodePorts) bool {
	return p == q || p.List.Equal(q.List) && slices.Equal(p.Freed, q.Freed)
}
