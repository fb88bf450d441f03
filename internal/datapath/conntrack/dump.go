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
	Family   byte   // AF_INET or AF_INET6; where addresses are asked for it is theirs
	Protocol byte
	// An address without a port matches all its ports, a port without an address
	// that of all.
	Original, Reply Tuple
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
		(f.Family == 0 || f.Family == familyOf(e.Original.Source.Addr())) && f.Original.covers(e.Original) && f.Reply.covers(e.Reply)
}

func (t Tuple) covers(u Tuple) bool {
	return covers(t.Source, u.Source) && covers(t.Destination, u.Destination)
}

func covers(want, have netip.AddrPort) bool {
	return (!want.Addr().IsValid() || want.Addr() == have.Addr()) && (want.Port() == 0 || want.Port() == have.Port())
}

// family is that of the addresses that are asked for.
func (f Filter) family() byte {
	for _, a := range []netip.AddrPort{f.Original.Source, f.Original.Destination, f.Reply.Source, f.Reply.Destination} {
		if a.Addr().IsValid() {
			return familyOf(a.Addr())
		}
	}
	return f.Family
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
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
	flags := []byte(nil)
	for _, d := range []struct {
		tuple            Tuple
		identifier       netip.AddrPort // of an ICMP echo: that of the asking side
		attribute, which uint16
	}{
		{f.Original, f.Original.Source, entryOriginal, filterOriginal},
		{f.Reply, f.Reply.Destination, entryReply, filterReply},
	} {
		if d.tuple == (Tuple{}) && (d.which == filterOriginal || flags != nil) {
			continue // the protocol alone is compared once
		}
		tuple, compare := f.tuple(d.tuple, d.identifier.Port())
		if compare == 0 {
			continue
		}
		b = appendAttribute(b, d.attribute|unix.NLA_F_NESTED, tuple)
		flags = appendAttribute(flags, d.which, binary.NativeEndian.AppendUint32(nil, compare))
	}
	if flags == nil {
		return b // the family alone
	}
	return appendAttribute(b, entryFilter|unix.NLA_F_NESTED, flags)
}

// tuple is one direction's tuple, and what of it is to be compared. Addresses of IPv6
// are not: the kernel has the comparison the wrong way round, and leaves out
// those that match (ctnetlink_filter_match_tuple, seen on Linux 6.18).
func (f Filter) tuple(t Tuple, identifier uint16) (tuple []byte, compare uint32) {
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
	address(addressSource4, t.Source.Addr(), compareSource)
	address(addressDestination4, t.Destination.Addr(), compareDestination)
	if f.Protocol != 0 {
		protocol, compare = appendAttribute(protocol, protocolNumber, []byte{f.Protocol}), compare|compareProtocol
	}
	switch f.Protocol {
	case 0: // ports of which protocol?
	case unix.IPPROTO_ICMP:
		port(protocolICMP, identifier, compareICMP)
	case unix.IPPROTO_ICMPV6:
		port(protocolICMPv6, identifier, compareICMPv6)
	default:
		port(protocolSource, t.Source.Port(), compareSourcePort)
		port(protocolDestination, t.Destination.Port(), compareDestinationPort)
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
