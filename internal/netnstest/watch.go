package netnstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Packet is what a host saw of a TCP or UDP packet or an ICMP echo request.
type Packet struct {
	Protocol byte
	Source   netip.AddrPort // the port of an echo request is its identifier
	Port     uint16         // the destination's
	Flags    byte           // of TCP
	Sequence uint32         // of TCP
	Clock    uint32         // of TCP: its timestamp (RFC 7323); 0: none
}

// Watch calls saw for every packet that reaches h by the named link, one after
// the other, until the function it returns is called. By then saw has been
// called for all that came before.
func Watch(h *Host, link string, saw func(Packet)) (stop func()) {
	h.t.Helper()
	var f *os.File
	h.Do(func() (err error) {
		f, err = packetSocket(link)
		return err
	})
	done := make(chan error, 1)
	go func() { done <- readPackets(f, saw) }()
	return func() {
		h.t.Helper()
		err := f.SetReadDeadline(time.Now())
		select {
		case ended := <-done:
			err = errors.Join(err, ended)
		case <-time.After(runPatience):
			err = errors.Join(err, fmt.Errorf("packets are being looked at still, after %s", runPatience))
		}
		if err := errors.Join(err, f.Close()); err != nil {
			h.t.Fatalf("watch %s of %s: %v", link, h.Name, err)
		}
	}
}

// watchBuffer holds what arrives while nobody reads.
const watchBuffer = 32 << 20

// packetSocket sees the packets of one link without their link-layer headers
// (packet(7)).
func packetSocket(link string) (*os.File, error) {
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // in network order
	l, err := netlink.LinkByName(link)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, watchBuffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "packets of "+link), nil
}

// readPackets reads until the deadline of f passes and nothing is left.
func readPackets(f *os.File, saw func(Packet)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	drain := func(fd uintptr) {
		for {
			n, from, err := unix.Recvfrom(int(fd), b, 0)
			if err != nil {
				return
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if p, ok := parsePacket(b[:n]); ok {
				saw(p)
			}
		}
	}
	err = raw.Read(func(fd uintptr) bool { drain(fd); return false })
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return raw.Control(drain)
}

const (
	echoRequest4, echoRequest6 = 8, 128
	header4, header6           = 20, 40
)

func parsePacket(b []byte) (Packet, bool) {
	var p Packet
	var from netip.Addr
	switch {
	case len(b) >= header4 && b[0]>>4 == 4:
		p.Protocol, from = b[9], netip.AddrFrom4([4]byte(b[12:16]))
		b = b[min(len(b), int(b[0]&0xf)*4):]
	case len(b) >= header6 && b[0]>>4 == 6:
		p.Protocol, from = b[6], netip.AddrFrom16([16]byte(b[8:24]))
		b = b[header6:]
	}
	if len(b) < 8 {
		return p, false
	}
	port := binary.BigEndian.Uint16(b)
	switch p.Protocol {
	case unix.IPPROTO_TCP:
		if len(b) < 20 {
			return p, false
		}
		p.Sequence, p.Flags = binary.BigEndian.Uint32(b[4:]), b[13]
		p.Clock = clockIn(b[20:max(20, min(len(b), int(b[12]>>4)*4))])
	case unix.IPPROTO_UDP:
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		port = binary.BigEndian.Uint16(b[4:])
		return Packet{Protocol: p.Protocol, Source: netip.AddrPortFrom(from, port)}, b[0] == echoRequest4 || b[0] == echoRequest6
	default:
		return p, false
	}
	p.Source, p.Port = netip.AddrPortFrom(from, port), binary.BigEndian.Uint16(b[2:])
	return p, true
}

// clockIn is the timestamp among the options of TCP, if there is one.
func clockIn(options []byte) uint32 {
	const end, nothing, timestamps, size = 0, 1, 8, 10
	for len(options) > 0 && options[0] != end {
		if options[0] == nothing {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return 0
		}
		if options[0] == timestamps && options[1] == size {
			return binary.BigEndian.Uint32(options[2:])
		}
		options = options[options[1]:]
	}
	return 0
}
