package nodeportlocal

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/world"
)

// keptPorts is what is kept of ports of the node, by port: whose it is, or that it was
// given back, in the order in which that was written.
var keptPorts = journal.Kept[NodePorts]{Name: "nodeportlocal/ports", Own: Allocated, Changed: changedPorts, Read: readPorts,
	Member: "nodePorts", Old: func(p *NodePorts) any { return p }, Refuse: outOfOrder}.Kind()

func outOfOrder(p *NodePorts) error {
	if !slices.IsSortedFunc(p.List, NodePort.Compare) {
		return errors.New("the ports of the node are out of order, which nobody wrote")
	}
	return nil
}

// recordKey is the key of a value that says that there is a record, though nobody has a port.
const recordKey = "record"

// A keptPort is the value of a port.
type keptPort struct {
	Pod     *world.Key `json:"pod,omitempty"` // nil: nobody knows
	UID     string     `json:"uid,omitempty"`
	PodPort uint16     `json:"podPort,omitempty"`
	Freed   bool       `json:"freed,omitempty"`
}

// changedPorts tells of what pods get first, and then of what was given back.
func changedPorts(last, now *NodePorts, tell func(journal.Change)) {
	before := last
	if last == nil {
		before = &NodePorts{}
		tell(journal.Change{Key: recordKey, Value: struct{}{}})
	}
	gone, come := differing(before.List, now.List)
	had := make(map[world.Port]bool, len(gone)) // ports of which something is told, and whether they had a value
	for _, n := range gone {
		had[n.Port] = true
	}
	freed, resting := before.Freed, map[world.Port]bool{}
	if same := slices.Equal(before.Freed, now.Freed); !same {
		for _, p := range before.Freed {
			resting[p] = true
		}
	}
	for _, n := range come {
		kept := keptPort{UID: n.UID, PodPort: n.PodPort}
		if n.Pod.Name != "" {
			kept.Pod = &n.Pod
		}
		tell(journal.Change{Key: n.String(), Had: had[n.Port] || resting[n.Port], Value: kept})
		delete(had, n.Port)
		delete(resting, n.Port)
	}
	if !slices.Equal(freed, now.Freed) {
		for _, p := range now.Freed {
			if !resting[p] {
				tell(journal.Change{Key: p.String(), Had: had[p], Value: keptPort{Freed: true}})
			}
			delete(had, p)
			delete(resting, p)
		}
	}
	for _, list := range []map[world.Port]bool{had, resting} {
		for p := range list {
			tell(journal.Change{Key: p.String(), Had: true})
		}
	}
}

// differing are those that are in one of two lists only, each in order.
func differing(a, b []NodePort) (onlyA, onlyB []NodePort) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(a) > 0 && len(b) > 0 && a[0] == b[0]:
			a, b = a[1:], b[1:]
		case len(b) == 0 || len(a) > 0 && a[0].Compare(b[0]) <= 0:
			onlyA, a = append(onlyA, a[0]), a[1:]
		default:
			onlyB, b = append(onlyB, b[0]), b[1:]
		}
	}
	return onlyA, onlyB
}

// readPorts makes a record of values. A port whose value is lost is listed as one of a
// pod that nobody knows.
func readPorts(values []journal.Value, lost []string) (*NodePorts, []journal.Damage) {
	if len(values)+len(lost) == 0 {
		return nil, nil
	}
	out := &NodePorts{List: []NodePort{}, Freed: []world.Port{}}
	var wrong []journal.Damage
	for _, v := range values {
		if v.Key == recordKey {
			continue
		}
		var kept keptPort
		port, err := parsePort(v.Key)
		if err == nil {
			err = json.Unmarshal(v.JSON, &kept)
		}
		switch {
		case err != nil:
			wrong = append(wrong, journal.Damage{Key: v.Key, Why: "it is no port of a pod"})
			lost = append(lost, v.Key)
		case kept.Freed:
			out.Freed = append(out.Freed, port)
		case kept.Pod == nil:
			lost = append(lost, v.Key)
		default:
			out.List = append(out.List, NodePort{Port: port, Pod: *kept.Pod, UID: kept.UID, PodPort: kept.PodPort})
		}
	}
	for _, key := range lost {
		port, err := parsePort(key)
		if err == nil && !slices.ContainsFunc(out.List, func(n NodePort) bool { return n.Port == port }) {
			out.List = append(out.List, NodePort{Port: port})
		}
	}
	slices.SortStableFunc(out.List, NodePort.Compare)
	slices.SortStableFunc(out.Freed, func(p, q world.Port) int { return spaceOf(p) - spaceOf(q) })
	return out, wrong
}

// spaceOf orders ports as lists of those given back have them.
func spaceOf(p world.Port) int {
	return familyOrder(p.IPv6)*len(protocols) + slices.Index(protocols, p.Protocol)
}

// parsePort is the port that [world.Port.String] wrote.
func parsePort(text string) (p world.Port, err error) {
	var name string
	if _, err := fmt.Sscanf(strings.Replace(text, "/", " ", 1), "%d %s", &p.Number, &name); err != nil {
		return p, err
	}
	name, p.IPv6 = strings.CutSuffix(name, "6")
	i := slices.IndexFunc(protocols, func(b byte) bool { return world.ProtocolName(b) == name })
	if i < 0 {
		return p, errors.New("no protocol with ports")
	}
	p.Protocol = protocols[i]
	if p.String() != text {
		return p, errors.New("no port")
	}
	return p, nil
}
