package scenario

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

const (
	ethernetHeader = 14
	udpHeader      = 8
	vxlanHeader    = 8

	hasVNI    = 0x08 // flags of a VXLAN header: RFC 7348 section 5,
	hasPolicy = 0x80 // and draft-smith-vxlan-group-policy section 2.1
)

// ethernet puts a frame's header before an IP packet.
func ethernet(from, to world.MAC, ip []byte) []byte {
	b := append(append([]byte{}, to[:]...), from[:]...)
	typ := uint16(unix.ETH_P_IP)
	if ip[0]>>4 == 6 {
		typ = unix.ETH_P_IPV6
	}
	return append(binary.BigEndian.AppendUint16(b, typ), ip...)
}

// A tunnel is one direction of the overlay between two nodes.
type tunnel struct {
	from, to netip.Addr
	port     int
	vni      int
	policy   uint16 // of the group that the packet brings with it; 0: none
}

// wrap is an inner frame on its way through the tunnel, from the outer IP header
// on (RFC 7348 section 5).
func (t tunnel) wrap(frame []byte) []byte {
	vxlan := binary.BigEndian.AppendUint32([]byte{hasVNI, 0, byte(t.policy >> 8), byte(t.policy)}, uint32(t.vni)<<8)
	if t.policy != 0 {
		vxlan[0] |= hasPolicy
	}
	body := make([]byte, udpHeader)
	binary.BigEndian.PutUint16(body, 49152)
	binary.BigEndian.PutUint16(body[2:], uint16(t.port))
	body = append(append(body, vxlan...), frame...)
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	binary.BigEndian.PutUint16(body[6:], ^sum(pseudo(t.from, t.to, unix.IPPROTO_UDP, len(body)), body))
	return ip(t.from, t.to, unix.IPPROTO_UDP, body)
}

// unwrap returns the tunnel and the inner frame of an outer IP packet, if it is
// one of the overlay.
func unwrap(b []byte) (t tunnel, frame []byte, ok bool) {
	switch {
	case len(b) > ip4Header && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		t.from, t.to = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[ip4Header:]
	case len(b) > ip6Header && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		t.from, t.to = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		b = b[ip6Header:]
	default:
		return t, nil, false
	}
	if len(b) < udpHeader+vxlanHeader+ethernetHeader || b[udpHeader]&^hasPolicy != hasVNI {
		return t, nil, false
	}
	t.port = int(binary.BigEndian.Uint16(b[2:]))
	t.vni = int(binary.BigEndian.Uint32(b[udpHeader+4:]) >> 8)
	if b[udpHeader]&hasPolicy != 0 {
		t.policy = binary.BigEndian.Uint16(b[udpHeader+2:])
	}
	return t, b[udpHeader+vxlanHeader:], true
}

// A sight is a packet as it was seen.
type sight struct {
	packet
	through tunnel    // of the overlay, if it came through it
	mac     world.MAC // the frame is for, inside the tunnel if there is one
	refused bool      // an ICMP error that says so of packet: it did not get through
}

// parseFrame reads a frame. What is no packet of a scenario is errNotOurs.
func parseFrame(b []byte) (s sight, err error) {
	if len(b) <= ethernetHeader {
		return s, errNotOurs
	}
	s.mac = world.MAC(b)
	b = b[ethernetHeader:]
	if t, inner, ok := unwrap(b); ok {
		s, err = parseFrame(inner)
		s.through = t
		return s, err
	}
	if quoted := refusal(b); quoted != nil {
		s.packet, err = parsePacket(quoted)
		s.refused = true
		return s, err
	}
	s.packet, err = parsePacket(b)
	return s, err
}

// refusal returns the packet that an ICMP "unreachable" is about, of RFC 792 or
// RFC 4443 section 3.1.
func refusal(b []byte) []byte {
	const icmpHeader = 8
	switch {
	case len(b) > ip4Header+icmpHeader && b[0]>>4 == 4 && b[9] == unix.IPPROTO_ICMP && b[ip4Header] == 3:
		return b[ip4Header+icmpHeader:]
	case len(b) > ip6Header+icmpHeader && b[0]>>4 == 6 && b[6] == unix.IPPROTO_ICMPV6 && b[ip6Header] == 1:
		return b[ip6Header+icmpHeader:]
	default:
		return nil
	}
}
