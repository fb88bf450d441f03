package nodeportlocal

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// keptPorts is what is kept of ports of the node, by port: whose it is, or that it was
// given back, in the order in which that was written.
var keptPorts = journal.Kept[NodePorts]{Name: "nodeportlocal/ports", Own: Allocated, Changed: changedPorts, Read: readPorts,
	Member: "nodePorts", Old: func(p *NodePorts) any { return p }}.Kind()

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
	gone, come := sorted.Differing(before.List, now.List, NodePort.Compare)
	had := make(map[world.Port]bool, len(gone)) // ports of which something is told, and whether they had a value
	for _, n := range gone {
		had[n.Port] = true
	}
	again, freed := differing(before.Freed, now.Freed)
	resting := make(map[world.Port]bool, len(again))
	for _, p := range again {
		resting[p] = true
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
	for _, p := range freed {
		tell(journal.Change{Key: p.String(), Had: had[p] || resting[p], Value: keptPort{Freed: true}})
		delete(had, p)
		delete(resting, p)
	}
	for _, list := range []map[world.Port]bool{had, resting} {
		for p := range list {
			tell(journal.Change{Key: p.String(), Had: true})
		}
	}
}

// differing are the ports that are in one of two lists only. Both are in the order of
// spaces, and of each of them in that in which they were given back.
func differing(a, b []world.Port) (onlyA, onlyB []world.Port) {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] == b[0]:
			a, b = a[1:], b[1:]
		case spaceOf(a[0]) > spaceOf(b[0]):
			onlyB, b = append(onlyB, b[0]), b[1:]
		default:
			onlyA, a = append(onlyA, a[0]), a[1:]
		}
	}
	return append(onlyA, a...), append(onlyB, b...)
}

// readPorts makes a record of values. A port whose value is lost is listed as one of a
// pod that nobody knows.
func readPorts(values []journal.Value, lost []string) (*NodePorts, []journal.Damage) {
	if len(values)+len(lost) == 0 {
		return nil, nil
	}
	var list []NodePort
	freed := []world.Port{}
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
			freed = append(freed, port)
		case kept.Pod == nil:
			lost = append(lost, v.Key)
		default:
			list = append(list, NodePort{Port: port, Pod: *kept.Pod, UID: kept.UID, PodPort: kept.PodPort})
		}
	}
	for _, key := range lost {
		port, err := parsePort(key)
		if err == nil && !slices.ContainsFunc(list, func(n NodePort) bool { return n.Port == port }) {
			list = append(list, NodePort{Port: port})
		}
	}
	slices.SortStableFunc(freed, func(p, q world.Port) int { return spaceOf(p) - spaceOf(q) })
	return &NodePorts{List: SortedNodePorts(list...), Freed: freed}, wrong
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
