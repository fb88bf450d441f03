package world

import (
	"cmp"
	"fmt"
	"slices"
)

// A Port is a port of the node. Families and protocols number theirs each by
// itself.
type Port struct {
	IPv6     bool   `json:"ipv6,omitempty"`
	Protocol byte   `json:"protocol"` // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	Number   uint16 `json:"number"`
}

// Compare orders ports by number, then by protocol, then by family.
func (p Port) Compare(q Port) int { return cmp.Compare(p.key(), q.key()) }

func (p Port) key() int {
	key := int(p.Number)<<9 | int(p.Protocol)<<1
	if p.IPv6 {
		key |= 1
	}
	return key
}

// String is the port as people write it: 61000/tcp, or 61000/tcp6.
func (p Port) String() string {
	family := ""
	if p.IPv6 {
		family = "6"
	}
	return fmt.Sprintf("%d/%s%s", p.Number, ProtocolName(p.Protocol), family)
}

// ProtocolName is a protocol with ports, in small letters; "" for another.
func ProtocolName(number byte) string {
	switch number {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	}
	return ""
}

// An OwnPort is a port of the node that Fairlead itself listens on.
type OwnPort struct {
	HostPort
	Use string // "the overlay between nodes"
	Way string // how to move it: "write another overlay.port"
}

// EgressPort is the UDP port of the tunnel of Egresses, while there are any.
const EgressPort = 14789

// OwnPorts are the ports of the node that Fairlead itself listens on: no pod gets
// one of them.
func (w *World) OwnPorts() []OwnPort {
	const tcp, udp = 6, 17
	var out []OwnPort
	if w.Config.HasOverlay() {
		out = append(out, OwnPort{HostPort{Port: uint16(w.Config.Overlay.Port), Protocol: udp}, "the overlay between nodes", "write another overlay.port"})
	}
	if w.Egresses != nil && len(w.Egresses.List) > 0 && w.Config.Enabled("egress") {
		out = append(out, OwnPort{HostPort{Port: EgressPort, Protocol: udp}, "the tunnel of Egresses", "write another port: this one is the same on all nodes"})
	}
	if w.Metrics.IsValid() {
		out = append(out, OwnPort{HostPort{Address: w.Metrics.Addr(), Port: w.Metrics.Port(), Protocol: tcp}, "the agent's metrics and health", "start the agent with another --metrics-address"})
	}
	return out
}

// Own returns the port of Fairlead's own that p would take.
func (w *World) Own(p HostPort) (OwnPort, bool) {
	for _, own := range w.OwnPorts() {
		if own.Overlaps(p) {
			return own, true
		}
	}
	return OwnPort{}, false
}

// Ports are the numbers that p is, of each family.
func (p HostPort) Ports() []Port {
	var out []Port
	for _, ipv6 := range []bool{false, true} {
		if p.Anywhere() || p.Address.Is6() == ipv6 {
			out = append(out, Port{IPv6: ipv6, Protocol: p.Protocol, Number: p.Port})
		}
	}
	return out
}

// Taken are ports of the node that were found to be others'.
type Taken struct {
	Ports []Port
	// Closed: it is not known of which ports else, so that nothing is given out
	// that was not before.
	Closed bool
}

// PortsTaken are those, as they were observed.
const PortsTaken = Own[Taken]("ports-taken")

// Equal reports whether t and u say the same. Nil says nothing.
func (t *Taken) Equal(u *Taken) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t == u || t.Closed == u.Closed && slices.Equal(t.Ports, u.Ports)
}
