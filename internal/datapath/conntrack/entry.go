package conntrack

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// An Entry is one connection of the table. Where it is translated, the reply's
// tuple tells how: replies come from where packets really go, and go to the
// address and port that the source was given.
type Entry struct {
	Protocol        byte
	Original, Reply Tuple
	Status          Status
	TCPState        TCPState // of TCP
}

// A Tuple is one direction of a connection. The identifier of an ICMP echo is
// the port of the asking side.
type Tuple struct{ Source, Destination netip.AddrPort }

// Status is bits that say what became of a connection
// (include/uapi/linux/netfilter/nf_conntrack_common.h, enum ip_conntrack_status).
type Status uint32

const (
	// SeenReply is set once anything came back.
	SeenReply Status = 1 << 1
	// SourceNAT is set where the source of a connection's packets is translated.
	SourceNAT Status = 1 << 4
)

// TCPState is how far a TCP connection is
// (include/uapi/linux/netfilter/nf_conntrack_tcp.h, enum tcp_conntrack).
type TCPState byte

// States that tell how a connection begins and ends.
const (
	SynReceived TCPState = 2 // answered by SYN/ACK
	Established TCPState = 3
	TimeWait    TCPState = 7 // both sides have closed
	Closed      TCPState = 8 // reset
)

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h: enum ctattr_type,
// ctattr_tuple, ctattr_ip, ctattr_l4proto, ctattr_protoinfo,
// ctattr_protoinfo_tcp and ctattr_filter.
const (
	entryOriginal   = 1
	entryReply      = 2
	entryStatus     = 3
	entryProtoInfo  = 4
	entryMark       = 8
	entryMarkMask   = 21
	entryFilter     = 25
	entryStatusMask = 26

	tupleAddresses = 1
	tupleProtocol  = 2

	addressSource4      = 1
	addressDestination4 = 2
	addressSource6      = 3
	addressDestination6 = 4

	protocolNumber      = 1
	protocolSource      = 2
	protocolDestination = 3
	protocolICMP        = 4
	protocolICMPv6      = 7

	infoTCP  = 1
	tcpState = 1

	filterOriginal = 1
	filterReply    = 2
)

// parse reads an entry from the body of a message. What it does not know it
// passes over; both tuples must be there.
func (e *Entry) parse(body []byte) error {
	*e = Entry{}
	if len(body) < netfilterHeader {
		return fmt.Errorf("conntrack: an entry of %d bytes", len(body))
	}
	for kind, value := range attributes(body[netfilterHeader:]) {
		switch kind {
		case entryOriginal:
			e.Protocol = e.Original.parse(value)
			if isICMP(e.Protocol) { // the identifier stands where a source port does
				e.Original.Destination = netip.AddrPortFrom(e.Original.Destination.Addr(), 0)
			}
		case entryReply:
			if isICMP(e.Reply.parse(value)) {
				e.Reply.Source = netip.AddrPortFrom(e.Reply.Source.Addr(), 0)
			}
		case entryStatus:
			e.Status = Status(number32(value))
		case entryProtoInfo:
			e.TCPState = stateOf(value)
		}
	}
	if !e.Original.Source.IsValid() || !e.Original.Destination.IsValid() || !e.Reply.Source.IsValid() || !e.Reply.Destination.IsValid() {
		return fmt.Errorf("conntrack: an entry without both tuples")
	}
	return nil
}

// parse reads a tuple and returns its protocol. An identifier becomes the port
// of both sides.
func (t *Tuple) parse(b []byte) (protocol byte) {
	var source, destination netip.Addr
	var from, to uint16
	for kind, value := range attributes(b) {
		switch kind {
		case tupleAddresses:
			source, destination = addresses(value)
		case tupleProtocol:
			protocol, from, to = ports(value)
		}
	}
	t.Source, t.Destination = netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to)
	return protocol
}

func addresses(b []byte) (source, destination netip.Addr) {
	for kind, value := range attributes(b) {
		switch {
		case kind == addressSource4 && len(value) == 4:
			source = netip.AddrFrom4([4]byte(value))
		case kind == addressDestination4 && len(value) == 4:
			destination = netip.AddrFrom4([4]byte(value))
		case kind == addressSource6 && len(value) == 16:
			source = netip.AddrFrom16([16]byte(value))
		case kind == addressDestination6 && len(value) == 16:
			destination = netip.AddrFrom16([16]byte(value))
		}
	}
	return source, destination
}

func ports(b []byte) (protocol byte, source, destination uint16) {
	for kind, value := range attributes(b) {
		switch kind {
		case protocolNumber:
			if len(value) == 1 {
				protocol = value[0]
			}
		case protocolSource:
			source = number16(value)
		case protocolDestination:
			destination = number16(value)
		case protocolICMP, protocolICMPv6:
			source = number16(value)
			destination = source
		}
	}
	return protocol, source, destination
}

// stateOf returns the state of a TCP connection, 0 for others.
func stateOf(b []byte) (state TCPState) {
	for kind, value := range attributes(b) {
		if kind != infoTCP {
			continue
		}
		for kind, value := range attributes(value) {
			if kind == tcpState && len(value) == 1 {
				state = TCPState(value[0])
			}
		}
	}
	return state
}

func isICMP(protocol byte) bool {
	return protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6
}

func number16(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func number32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
