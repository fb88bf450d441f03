package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A Filter says which entries are wanted. What is zero in it matches all.
type Filter struct {
	Status   Status // bits that must be set
	Protocol byte
	Reply    Tuple // an address without a port matches all its ports
}

// Dump calls visit with every entry that f wants, until visit has enough. The
// entry is good until visit returns.
//
// The kernel leaves out what it can (Linux 5.8 and later), which is most of the
// cost; what an older one lets through is left out here. A connection that
// comes or goes meanwhile may be seen or not, and while the kernel resizes its
// table one may be seen twice. Entries come in the order of a keyed hash: the
// first of them are a random sample.
func (t *Table) Dump(f Filter, visit func(*Entry) (more bool)) error {
	t.ask(msgGet, unix.NLM_F_DUMP, f.family())
	t.request = f.append(t.request)
	err := t.send(func(body []byte) error {
		if err := t.entry.parse(body); err != nil {
			return err
		}
		if f.wants(&t.entry) && !visit(&t.entry) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return t.reopen()
	}
	return err
}

// errEnough: the rest of an answer is not wanted.
var errEnough = errors.New("enough")

func (f Filter) wants(e *Entry) bool {
	return e.Status&f.Status == f.Status && (f.Protocol == 0 || f.Protocol == e.Protocol) &&
		covers(f.Reply.Source, e.Reply.Source) && covers(f.Reply.Destination, e.Reply.Destination)
}

func covers(want, have netip.AddrPort) bool {
	return (!want.Addr().IsValid() || want.Addr() == have.Addr()) && (want.Port() == 0 || want.Port() == have.Port())
}

// family is that of the addresses that are asked for.
func (f Filter) family() byte {
	for _, a := range []netip.Addr{f.Reply.Source.Addr(), f.Reply.Destination.Addr()} {
		switch {
		case a.Is4():
			return unix.AF_INET
		case a.Is6():
			return unix.AF_INET6
		}
	}
	return unix.AF_UNSPEC
}

// What of a tuple the kernel compares (net/netfilter/nf_internals.h,
// CTA_FILTER_F_…).
const (
	compareSource          = 1 << 0
	compareDestination     = 1 << 1
	compareProtocol        = 1 << 3
	compareSourcePort      = 1 << 4
	compareDestinationPort = 1 << 5
	compareICMP            = 1 << 8
	compareICMPv6          = 1 << 11
)

// append writes f as attributes, as far as the kernel can compare it: it
// compares tuples of one family only, and ports of one protocol.
func (f Filter) append(b []byte) []byte {
	if f.Status != 0 {
		status := binary.BigEndian.AppendUint32(nil, uint32(f.Status))
		b = appendAttribute(b, entryStatus, status)
		b = appendAttribute(b, entryStatusMask, status)
	}
	if f.family() == unix.AF_UNSPEC {
		return b
	}
	tuple, compare := f.tuple()
	if compare == 0 {
		return b // the family alone
	}
	b = appendAttribute(b, entryReply|unix.NLA_F_NESTED, tuple)
	return appendAttribute(b, entryFilter|unix.NLA_F_NESTED,
		appendAttribute(nil, filterReply, binary.NativeEndian.AppendUint32(nil, compare)))
}

// tuple is the reply's tuple, and what of it is to be compared. Addresses of IPv6
// are not: the kernel has the comparison the wrong way round, and leaves out
// those that match (ctnetlink_filter_match_tuple, seen on Linux 6.18).
func (f Filter) tuple() (tuple []byte, compare uint32) {
	var addresses, protocol []byte
	address := func(kind uint16, a netip.Addr, flag uint32) {
		if a.Is4() {
			addresses, compare = appendAttribute(addresses, kind, a.AsSlice()), compare|flag
		}
	}
	port := func(kind, port uint16, flag uint32) {
		if port != 0 {
			protocol, compare = appendAttribute(protocol, kind, binary.BigEndian.AppendUint16(nil, port)), compare|flag
		}
	}
	address(addressSource4, f.Reply.Source.Addr(), compareSource)
	address(addressDestination4, f.Reply.Destination.Addr(), compareDestination)
	if f.Protocol != 0 {
		protocol, compare = appendAttribute(protocol, protocolNumber, []byte{f.Protocol}), compare|compareProtocol
	}
	switch f.Protocol {
	case 0: // ports of which protocol?
	case unix.IPPROTO_ICMP:
		port(protocolICMP, f.Reply.Destination.Port(), compareICMP)
	case unix.IPPROTO_ICMPV6:
		port(protocolICMPv6, f.Reply.Destination.Port(), compareICMPv6)
	default:
		port(protocolSource, f.Reply.Source.Port(), compareSourcePort)
		port(protocolDestination, f.Reply.Destination.Port(), compareDestinationPort)
	}
	if addresses != nil {
		tuple = appendAttribute(tuple, tupleAddresses|unix.NLA_F_NESTED, addresses)
	}
	if protocol != nil {
		tuple = appendAttribute(tuple, tupleProtocol|unix.NLA_F_NESTED, protocol)
	}
	return tuple, compare
}

func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}
