package scenario

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// A protocol is an IANA number; ICMP stands for that of either family.
type protocol byte

func parseProtocol(s string) (protocol, error) {
	switch s {
	case "tcp":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	case "sctp":
		return unix.IPPROTO_SCTP, nil
	case "icmp":
		return unix.IPPROTO_ICMP, nil
	case "gre":
		return unix.IPPROTO_GRE, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return protocol(n), err
}

// ported reports whether packets of p have ports, or an identifier in place of
// them.
func (p protocol) ported() bool {
	return p == unix.IPPROTO_TCP || p == unix.IPPROTO_UDP || p == unix.IPPROTO_SCTP || p == unix.IPPROTO_ICMP
}

func (p protocol) number(like netip.Addr) byte {
	if p == unix.IPPROTO_ICMP && like.Is6() {
		return unix.IPPROTO_ICMPV6
	}
	return byte(p)
}

// A packet opens a connection, or answers the packet that opened one. Its token
// tells it from all others and survives translation.
type packet struct {
	protocol protocol
	from, to netip.AddrPort // the identifier of an ICMP echo is a port of the asking side
	token    uint32
	answer   bool
	damage   string // what is wrong with it, as seen
}

// reply is the answer to p.
func (p packet) reply() packet {
	p.from, p.to, p.answer = p.to, p.from, true
	return p
}

const (
	ip4Header, ip6Header = 20, 40
	hopLimit             = 64
)

// bytes is p from its IP header on.
func (p packet) bytes() []byte {
	from, to := p.from.Addr(), p.to.Addr()
	body := p.body()
	number := p.protocol.number(from)
	if at := checksumAt(p.protocol); at >= 0 {
		check := ^sum(pseudo(from, to, number, len(body)), body)
		if check == 0 && p.protocol == unix.IPPROTO_UDP {
			check = 0xffff // 0 says that there is none (RFC 768)
		}
		binary.BigEndian.PutUint16(body[at:], check)
	}
	return ip(from, to, number, body)
}

// ip puts an IP header before body.
func ip(from, to netip.Addr, number byte, body []byte) []byte {
	if from.Is6() {
		b := make([]byte, ip6Header, ip6Header+len(body))
		b[0], b[6], b[7] = 6<<4, number, hopLimit
		binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
		copy(b[8:], from.AsSlice())
		copy(b[24:], to.AsSlice())
		return append(b, body...)
	}
	b := make([]byte, ip4Header, ip4Header+len(body))
	b[0], b[8], b[9] = 4<<4|ip4Header/4, hopLimit, number
	binary.BigEndian.PutUint16(b[2:], uint16(ip4Header+len(body)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^sum(b))
	return append(b, body...)
}

// body is what follows the IP header, with room for the checksum that has a
// pseudo header.
func (p packet) body() []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], p.from.Port())
	binary.BigEndian.PutUint16(b[2:], p.to.Port())
	switch p.protocol {
	case unix.IPPROTO_TCP: // RFC 9293 section 3.1: SYN, or SYN and ACK
		binary.BigEndian.PutUint32(b[4:], p.token)
		b[12], b[13] = 5<<4, 0x02
		if p.answer {
			binary.BigEndian.PutUint32(b[8:], p.token+1)
			b[13] = 0x12
		}
		binary.BigEndian.PutUint16(b[14:], 65535)
		return b
	case unix.IPPROTO_SCTP:
		return p.sctp()
	case unix.IPPROTO_ICMP:
		b = make([]byte, 12)
		b[0] = p.echoType()
		binary.BigEndian.PutUint16(b[4:], p.from.Port()|p.to.Port()) // one of them is 0
		binary.BigEndian.PutUint32(b[8:], p.token)
		return b
	case unix.IPPROTO_UDP:
		b = append(b[:8], p.payload()...)
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		return b
	default: // GRE (RFC 2784): version 0, carrying IPv4; to others it means nothing
		return append([]byte{0, 0, 0x08, 0}, p.payload()...)
	}
}

// payload says what p is where the protocol's header does not.
func (p packet) payload() []byte {
	b := binary.BigEndian.AppendUint32(nil, p.token)
	if p.answer {
		return append(b, 1)
	}
	return append(b, 0)
}

func (p packet) echoType() byte {
	switch {
	case p.from.Addr().Is6() && p.answer:
		return 129
	case p.from.Addr().Is6():
		return 128
	case p.answer:
		return 0
	default:
		return 8
	}
}

// sctp is an INIT, or an INIT ACK whose verification tag is the INIT's
// (RFC 9260 sections 3.3.2, 3.3.3 and 6.8).
func (p packet) sctp() []byte {
	b := make([]byte, 12+20)
	binary.BigEndian.PutUint16(b[0:], p.from.Port())
	binary.BigEndian.PutUint16(b[2:], p.to.Port())
	b[12] = 1
	if p.answer {
		b[12] = 2
		binary.BigEndian.PutUint32(b[4:], p.token)
	}
	binary.BigEndian.PutUint16(b[14:], 20)
	binary.BigEndian.PutUint32(b[16:], p.token)
	binary.BigEndian.PutUint32(b[20:], 65535)
	binary.BigEndian.PutUint16(b[24:], 1)
	binary.BigEndian.PutUint16(b[26:], 1)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// checksumAt is where the internet checksum of a body is, or -1.
func checksumAt(p protocol) int {
	switch p {
	case unix.IPPROTO_TCP:
		return 16
	case unix.IPPROTO_UDP:
		return 6
	case unix.IPPROTO_ICMP:
		return 2
	default:
		return -1
	}
}

// pseudo is the pseudo header of RFC 9293 and RFC 8200 section 8.1; ICMP over
// IPv4 has none.
func pseudo(from, to netip.Addr, protocol byte, length int) []byte {
	if protocol == unix.IPPROTO_ICMP {
		return nil
	}
	b := append(from.AsSlice(), to.AsSlice()...)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, uint32(length)), uint32(protocol))
}

// sum is the internet checksum of RFC 1071, before it is complemented. All
// parts but the last have even length.
func sum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for i := 0; i+1 < len(b); i += 2 {
			s += uint32(b[i])<<8 | uint32(b[i+1])
		}
		if len(b)%2 == 1 {
			s += uint32(b[len(b)-1]) << 8
		}
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

var errNotOurs = errors.New("is no packet of a scenario")

// parsePacket reads an IP packet. Only packets of scenarios are sure to have
// their checksums by the time they are seen: the kernel puts off those of its own.
func parsePacket(b []byte) (packet, error) {
	var p packet
	var from, to netip.Addr
	var number byte
	switch {
	case len(b) >= ip4Header && b[0] == 4<<4|ip4Header/4:
		if sum(b[:ip4Header]) != 0xffff {
			p.damage = "a wrong IP checksum"
		}
		number, b = b[9], b[:min(len(b), int(binary.BigEndian.Uint16(b[2:])))]
		from, to = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[ip4Header:]
	case len(b) >= ip6Header && b[0]>>4 == 6:
		number, b = b[6], b[:min(len(b), ip6Header+int(binary.BigEndian.Uint16(b[4:])))]
		from, to = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		b = b[ip6Header:]
	default:
		return p, errNotOurs
	}
	p.protocol = protocol(number)
	if number == unix.IPPROTO_ICMPV6 {
		p.protocol = unix.IPPROTO_ICMP
	}
	return p, p.parseBody(from, to, b)
}

func (p *packet) parseBody(from, to netip.Addr, b []byte) error {
	if len(b) < 8 {
		return errNotOurs
	}
	if checksumAt(p.protocol) >= 0 && sum(pseudo(from, to, p.protocol.number(from), len(b)), b) != 0xffff {
		p.damage = "a wrong checksum"
	}
	source, destination := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	switch p.protocol {
	case unix.IPPROTO_TCP:
		if len(b) < 20 {
			return errNotOurs
		}
		p.token, p.answer = binary.BigEndian.Uint32(b[4:]), b[13] == 0x12
	case unix.IPPROTO_UDP:
		if len(b) != udpHeader+5 {
			return errNotOurs
		}
		p.token, p.answer = binary.BigEndian.Uint32(b[udpHeader:]), b[len(b)-1] == 1
	case unix.IPPROTO_SCTP:
		if len(b) < 32 {
			return errNotOurs
		}
		p.token, p.answer = binary.BigEndian.Uint32(b[16:]), b[12] == 2
		check := binary.LittleEndian.Uint32(b[8:])
		binary.LittleEndian.PutUint32(b[8:], 0)
		if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != check {
			p.damage = "a wrong CRC32c"
		}
	case unix.IPPROTO_ICMP:
		if len(b) != 12 {
			return errNotOurs
		}
		p.answer = b[0] == 0 || b[0] == 129
		source, destination = binary.BigEndian.Uint16(b[4:]), 0
		if p.answer {
			source, destination = destination, source
		}
		p.token = binary.BigEndian.Uint32(b[8:])
	default:
		if len(b) != 4+5 {
			return errNotOurs
		}
		source, destination = 0, 0
		p.token, p.answer = binary.BigEndian.Uint32(b[4:]), b[len(b)-1] == 1
	}
	p.from, p.to = netip.AddrPortFrom(from, source), netip.AddrPortFrom(to, destination)
	return nil
}
