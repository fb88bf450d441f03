package scenario

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A tap sends frames on a link and sees what comes in by it.
type tap struct {
	t    *testing.T
	name string
	mac  world.MAC
	file *os.File
}

// room for the frames of a whole line.
const tapBuffer = 16 << 20

func openTap(t *testing.T, h *netnstest.Host, name string) *tap {
	t.Helper()
	x := &tap{t: t, name: name}
	h.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		x.mac = world.MAC(l.Attrs().HardwareAddr)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		x.file = os.NewFile(uintptr(fd), "tap "+name)
		all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8) // network order
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
	})
	t.Cleanup(func() {
		if err := x.file.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *tap) write(frame []byte) {
	x.t.Helper()
	if _, err := x.file.Write(frame); err != nil {
		x.t.Fatalf("%s: %v", x.name, err)
	}
}

// see passes every packet that comes in to visit, until visit has enough or the
// time is up.
func (x *tap) see(within time.Duration, visit func(sight) (enough bool)) {
	x.t.Helper()
	if err := x.file.SetReadDeadline(time.Now().Add(within)); err != nil {
		x.t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	for {
		n, err := x.file.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			x.t.Fatalf("%s: %v", x.name, err)
		}
		s, err := parseFrame(b[:n])
		if err != nil {
			continue // no packet of a scenario
		}
		if visit(s) {
			return
		}
	}
}

// A sender sends whole IP packets from a pod, as a process in it would: by the
// pod's own routes and neighbours.
type sender struct{ four, six int }

func openSender(t *testing.T, h *netnstest.Host) *sender {
	t.Helper()
	s := &sender{}
	h.Do(func() (err error) {
		if s.four, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		if s.six, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
			return err
		}
		return unix.SetsockoptInt(s.six, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL, 1)
	})
	t.Cleanup(func() {
		if err := errors.Join(unix.Close(s.four), unix.Close(s.six)); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *sender) send(to netip.Addr, b []byte) error {
	if to.Is6() {
		if err := unix.Sendto(s.six, b, 0, &unix.SockaddrInet6{Addr: to.As16()}); err != nil {
			return fmt.Errorf("send to %s: %w", to, err)
		}
		return nil
	}
	if err := unix.Sendto(s.four, b, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		return fmt.Errorf("send to %s: %w", to, err)
	}
	return nil
}
