package nodeportlocal

import (
	"encoding/json"
	"strconv"

	"fairlead.dev/fairlead/internal/world"
)

// appendAnnotation appends the value of a pod's annotation: a list in JSON, in the
// order of the mappings; nothing where none of them has a port.
func appendAnnotation(b []byte, mappings []Mapping) []byte {
	const first = '['
	next := byte(first)
	for i := range mappings {
		m := &mappings[i]
		if m.Port.Number == 0 {
			continue
		}
		b = append(b, next)
		next = ','
		b = append(b, `{"podPort":`...)
		b = strconv.AppendUint(b, uint64(m.PodPort), 10)
		b = append(b, `,"nodeIP":"`...)
		b = m.NodeIP.AppendTo(b)
		b = append(b, `","nodePort":`...)
		b = strconv.AppendUint(b, uint64(m.Port.Number), 10)
		b = append(b, `,"protocol":"`...)
		b = append(b, world.ProtocolName(m.Port.Protocol)...)
		b = append(b, `","ipFamily":"`...)
		b = append(b, familyName(m.Port.IPv6)...)
		b = append(b, `"}`...)
	}
	if next == first {
		return b
	}
	return append(b, ']')
}

// entry is what an annotation says of one mapping.
type entry struct {
	podPort uint16
	port    world.Port
}

// parse reads an annotation, as this or another agent wrote it, or somebody else:
// what makes no sense is left out.
func parse(text string) []entry {
	if text == "" {
		return nil
	}
	var list []struct {
		PodPort  int    `json:"podPort"`
		NodePort int    `json:"nodePort"`
		Protocol string `json:"protocol"`
		IPFamily string `json:"ipFamily"` // none before Antrea 2.6: IPv4
	}
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	var out []entry
	for _, e := range list {
		p := world.Port{IPv6: e.IPFamily == familyName(true), Number: uint16(e.NodePort)}
		for _, number := range protocols {
			if world.ProtocolName(number) == e.Protocol {
				p.Protocol = number
			}
		}
		known := e.IPFamily == "" || e.IPFamily == familyName(p.IPv6)
		if known && p.Protocol != 0 && isPort(e.PodPort) && isPort(e.NodePort) {
			out = append(out, entry{uint16(e.PodPort), p})
		}
	}
	return out
}

func isPort(n int) bool { return 1 <= n && n <= 1<<16-1 }
