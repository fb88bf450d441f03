package lab_test

import (
	be "encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// Packets as somebody writes them who has a raw socket in a pod: nothing here asks
// whether a packet is right.

// A header is what an IP packet says of itself.
type header struct {
	from, to string
	protocol byte
	hops     byte   // 0: 64
	options  []byte // of IPv4, in words of four bytes
}

func (h header) ip(body []byte) []byte {
	from, to := netip.MustParseAddr(h.from), netip.MustParseAddr(h.to)
	hops := h.hops
	if hops == 0 {
		hops = 64
	}
	if from.Is6() {
		b := []byte{6 << 4, 0, 0, 0, 0, 0, h.protocol, hops}
		be.BigEndian.PutUint16(b[4:], uint16(len(body)))
		return append(append(append(b, from.AsSlice()...), to.AsSlice()...), body...)
	}
	b := []byte{4<<4 | byte(5+len(h.options)/4), 0, 0, 0, 0, 0, 0, 0, hops, h.protocol, 0, 0}
	b = append(append(append(b, from.AsSlice()...), to.AsSlice()...), h.options...)
	be.BigEndian.PutUint16(b[2:], uint16(len(b)+len(body)))
	be.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, body...)
}

// whole is a packet with its transport checksum filled in at that place.
func (h header) whole(body []byte, at int) []byte {
	pseudo := append(netip.MustParseAddr(h.from).AsSlice(), netip.MustParseAddr(h.to).AsSlice()...)
	pseudo = be.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = be.BigEndian.AppendUint32(pseudo, uint32(h.protocol))
	if h.protocol == unix.IPPROTO_ICMP {
		pseudo = nil
	}
	be.BigEndian.PutUint16(body[at:], checksum(append(pseudo, body...)))
	return h.ip(body)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// datagram is a UDP packet (RFC 768).
func datagram(h header, port uint16, text []byte) []byte {
	h.protocol = unix.IPPROTO_UDP
	b := be.BigEndian.AppendUint16(nil, 4242)
	b = be.BigEndian.AppendUint16(b, port)
	b = be.BigEndian.AppendUint16(b, uint16(8+len(text)))
	return h.whole(append(append(b, 0, 0), text...), 6)
}

// fragments are an IPv4 packet in two, cut behind n bytes of its body.
func fragments(packet []byte, n int) [][]byte {
	const ihl, more = 20, 0x20
	var out [][]byte
	for i, body := range [][]byte{packet[ihl : ihl+n], packet[ihl+n:]} {
		b := append([]byte{}, packet[:ihl]...)
		be.BigEndian.PutUint16(b[2:], uint16(ihl+len(body)))
		be.BigEndian.PutUint16(b[4:], 0x1234)
		be.BigEndian.PutUint16(b[6:], uint16(i*n/8))
		if i == 0 {
			b[6] |= more
		}
		b[10], b[11] = 0, 0
		be.BigEndian.PutUint16(b[10:], checksum(b))
		out = append(out, append(b, body...))
	}
	return out
}

// wrapped is an IPv4 packet as it travels in the overlay to the named node, from the
// VXLAN header on (RFC 7348 section 5).
func wrapped(node string, inner []byte) []byte {
	to := world.OverlayMAC(node)
	b := append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, to[:]...)
	return append(append(b, 2, 0, 0, 0, 0, 0x66, 8, 0), inner...)
}

// advertisement offers a router and a prefix (RFC 4861 sections 4.2, 4.6).
func advertisement(from string) []byte {
	b := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	b = append(b, 3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0)
	b = append(b, netip.MustParseAddr("2001:db8:bad::").AsSlice()...)
	return header{from: from, to: "ff02::1", protocol: unix.IPPROTO_ICMPV6, hops: 255}.whole(b, 2)
}

// redirect has the node send what is for there to the pod (RFC 792, RFC 4861
// section 4.5).
func redirect(from, to, by, there string) []byte {
	h := header{from: from, to: to, protocol: unix.IPPROTO_ICMP, hops: 255}
	quoted := datagram(header{from: to, to: there}, 53, []byte("12345678"))
	if netip.MustParseAddr(from).Is4() {
		b := append([]byte{5, 1, 0, 0}, netip.MustParseAddr(by).AsSlice()...)
		return h.whole(append(b, quoted[:28]...), 2)
	}
	h.protocol = unix.IPPROTO_ICMPV6
	b := append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(by).AsSlice()...)
	return h.whole(append(b, netip.MustParseAddr(there).AsSlice()...), 2)
}

// claim says that an address is at the pod: an unasked ARP answer (RFC 826), or a
// neighbour advertisement (RFC 4861 section 4.4).
func claim(address string, mac net.HardwareAddr) []byte {
	a := netip.MustParseAddr(address)
	if a.Is4() {
		b := []byte{0, 1, 8, 0, 6, 4, 0, 2}
		b = append(append(b, mac...), a.AsSlice()...)
		return append(append(b, datapath.WireMAC[:]...), a.AsSlice()...)
	}
	b := append([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, a.AsSlice()...)
	b = append(append(b, 2, 1), mac...)
	return header{from: address, to: "ff02::1", protocol: unix.IPPROTO_ICMPV6, hops: 255}.whole(b, 2)
}

// throw sends packets as they are by eth0 of a namespace.
func throw(t *testing.T, path string, packets ...[]byte) {
	t.Helper()
	err := netns.Do(path, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, p := range packets {
			protocol := uint16(unix.ETH_P_IP)
			switch {
			case p[0]>>4 == 6:
				protocol = unix.ETH_P_IPV6
			case p[0] == 0:
				protocol = unix.ETH_P_ARP
			}
			frame := append(append([]byte{}, datapath.WireMAC[:]...), eth0.HardwareAddr...)
			frame = append(be.BigEndian.AppendUint16(frame, protocol), p...)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
