package gate_test

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// everybody is the hardware address of all.
var everybody = []byte{255, 255, 255, 255, 255, 255}

// ether is a frame; types are what stands between it and its payload: tags (each
// VLAN with what it is) and an EtherType.
func ether(payload []byte, types ...uint16) []byte {
	b := append(slices.Clone(everybody), 2, 0, 0, 0, 0, 1)
	for _, t := range types {
		b = binary.BigEndian.AppendUint16(b, t)
	}
	b = append(b, payload...)
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

// probe is an ARP packet of who has no address yet (RFC 5227); it is one of many.
func probe(n byte) []byte { return arp("0.0.0.0", "192.0.2.9", n) }

// arp is a request of the sender's for the address.
func arp(sender, target string, n byte) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, n}
	b = append(b, netip.MustParseAddr(sender).AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), netip.MustParseAddr(target).AsSlice()...)
	return ether(b, unix.ETH_P_ARP)
}

func ipv4(from, to string, body ...byte) []byte {
	b := make([]byte, 20)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
	copy(b[12:], netip.MustParseAddr(from).AsSlice())
	copy(b[16:], netip.MustParseAddr(to).AsSlice())
	return append(b, body...)
}

// ipv6 is a packet whose body begins with a header of the protocol.
func ipv6(from string, protocol byte, body ...byte) []byte {
	b := make([]byte, 40)
	b[0], b[6], b[7] = 6<<4, protocol, 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	copy(b[8:], netip.MustParseAddr(from).AsSlice())
	copy(b[24:], netip.MustParseAddr("ff02::1").AsSlice())
	return append(b, body...)
}

// options is a header of hop-by-hop or destination options, of so many times 8
// octets, before a header of the protocol.
func options(protocol byte, times int, then ...byte) []byte {
	b := make([]byte, 8*times)
	b[0], b[1] = protocol, byte(times-1)
	b[2], b[3] = 1, byte(8*times-4) // PadN
	return append(b, then...)
}

// fragment is the header of the first of several fragments.
func fragment(protocol byte, then ...byte) []byte {
	return append([]byte{protocol, 0, 0, 1, 0, 0, 0, 1}, then...)
}

// icmp is an ICMPv6 message.
func icmp(typ byte) []byte { return []byte{typ, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} }
