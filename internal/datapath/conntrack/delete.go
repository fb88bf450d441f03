package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// msgDelete is IPCTNL_MSG_CT_DELETE; see the messages above ask.
const msgDelete = 2

// Forget deletes every entry that f wants and for which stale is true, so that
// the next packet of its connection is translated anew, and returns how many it
// deleted. Only protocols with ports can be forgotten.
func (t *Table) Forget(f Filter, stale func(*Entry) bool) (int, error) {
	var found []Entry
	err := t.Dump(f, func(e *Entry) bool {
		if stale(e) {
			found = append(found, *e)
		}
		return true
	})
	forgotten := 0
	for _, e := range found {
		switch derr := t.delete(e); {
		case derr == nil:
			forgotten++
		case !errors.Is(derr, unix.ENOENT): // it ended by itself
			err = errors.Join(err, derr)
		}
	}
	return forgotten, err
}

func (t *Table) delete(e Entry) error {
	family := byte(unix.AF_INET)
	source, destination := uint16(addressSource4), uint16(addressDestination4)
	if e.Original.Source.Addr().Is6() {
		family, source, destination = unix.AF_INET6, addressSource6, addressDestination6
	}
	addresses := appendAttribute(nil, source, addressBytes(e.Original.Source))
	addresses = appendAttribute(addresses, destination, addressBytes(e.Original.Destination))
	protocol := appendAttribute(nil, protocolNumber, []byte{e.Protocol})
	protocol = appendAttribute(protocol, protocolSource, binary.BigEndian.AppendUint16(nil, e.Original.Source.Port()))
	protocol = appendAttribute(protocol, protocolDestination, binary.BigEndian.AppendUint16(nil, e.Original.Destination.Port()))
	tuple := appendAttribute(nil, tupleAddresses|unix.NLA_F_NESTED, addresses)
	tuple = appendAttribute(tuple, tupleProtocol|unix.NLA_F_NESTED, protocol)

	t.ask(msgDelete, unix.NLM_F_ACK, family)
	t.request = appendAttribute(t.request, entryOriginal|unix.NLA_F_NESTED, tuple)
	return t.send(func([]byte) error { return nil })
}

// DeleteMarked deletes every entry, of both families and of whatever protocol, whose mark
// has the bits of mark under mask. The kernel chooses them, in one message. No mark is
// refused: those are others' connections.
func (t *Table) DeleteMarked(mark, mask uint32) error {
	if mark == 0 || mark&^mask != 0 {
		return fmt.Errorf("conntrack: mark %#x/%#x is none to delete by", mark, mask)
	}
	t.ask(msgDelete, unix.NLM_F_ACK, unix.AF_UNSPEC)
	t.request = appendAttribute(t.request, entryMark, binary.BigEndian.AppendUint32(nil, mark))
	t.request = appendAttribute(t.request, entryMarkMask, binary.BigEndian.AppendUint32(nil, mask))
	return t.send(func([]byte) error { return nil })
}

func addressBytes(a netip.AddrPort) []byte { return a.Addr().AsSlice() }
