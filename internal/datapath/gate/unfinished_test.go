package gate_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
)

// unfinished sends a frame whose checksum, from the start on, somebody else is to
// write at the offset from there.
func (d *door) unfinished(frame []byte, start, offset int) {
	d.t.Helper()
	d.pod.Do(func() error {
		s, err := packetSocket("eth0", 0)
		if err != nil {
			return err
		}
		const needsChecksum, size = 1, 10 // VIRTIO_NET_HDR_F_NEEDS_CSUM, sizeof(struct virtio_net_hdr)
		h := make([]byte, size)
		h[0] = needsChecksum
		binary.NativeEndian.PutUint16(h[6:], uint16(start))
		binary.NativeEndian.PutUint16(h[8:], uint16(offset))
		return errors.Join(pin(), unix.SetsockoptInt(s, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.Sendto(s, append(h, frame...), 0, &unix.SockaddrLinklayer{Ifindex: d.index}), d.send(probe(1)), unix.Close(s))
	})
	if !d.waits(unix.ETH_P_ARP, within) {
		d.t.Fatal("nothing comes")
	}
}

// A checksum that is to be written changes neither addresses nor ports.
func TestAChecksumToBeWritten(t *testing.T) {
	t.Parallel()
	body := make([]byte, 64)
	withOptions := ipv4(own4, "10.244.1.9", body...)
	withOptions[0] = 0x46
	four, six := ether(ipv4(own4, "10.244.1.9", body...), typ4), ether(ipv6(own6, udp, body...), typ6)
	link := ether(ipv6(ownLink, udp, body...), typ6)
	d := newDoor(t, ofPod())
	for _, c := range []struct {
		frame         []byte
		start, offset int
		passes        bool
	}{
		{four, 34, 6, true}, {four, 34, 16, true}, {four, 34, 8, true}, {four, 62, 6, true}, {four, 28, 12, true},
		{four, 34, 2, false}, {four, 34, 0, false}, {four, 26, 0, false}, {four, 30, 2, false}, {four, 26, 12, false}, {four, 24, 0, false},
		{ether(withOptions, typ4), 38, 6, true}, {ether(withOptions, typ4), 34, 6, false}, {ether(withOptions, typ4), 38, 2, false},
		{six, 54, 6, true}, {six, 54, 16, true}, {six, 82, 6, true},
		{six, 54, 2, false}, {six, 36, 0, false}, {six, 22, 14, false}, {six, 24, 32, false}, {six, 20, 0, false},
		{link, 54, 6, true}, {link, 36, 0, false},
	} {
		t.Run(fmt.Sprintf("%x at %d+%d", c.frame[12:15], c.start, c.offset), func(t *testing.T) {
			d.drain()
			d.unfinished(slices.Clone(c.frame), c.start, c.offset)
			typ := int(binary.BigEndian.Uint16(c.frame[12:]))
			if got := d.waits(typ, 0); got != c.passes {
				t.Errorf("passes: %v", got)
			}
			if got := d.counts() == (gate.Counts{}); got != c.passes {
				t.Errorf("it is not refused: %v", got)
			}
		})
	}
}
