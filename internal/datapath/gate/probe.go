package gate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses that only the namespace of the probe has.
var probed, forged = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// arrives bounds how long a packet takes over the loopback.
const arrives = time.Second

// Probe finds out whether the kernel runs gates at the entrance of links, by doing: of
// two datagrams over the loopback the one with a forged source is refused and counted,
// and the other one arrives. It leaves all that behind: use a scratch namespace.
func Probe() error {
	return try(Gate{Sources: []netip.Prefix{netip.PrefixFrom(probed, probed.BitLen())}, Set: true}, Forged)
}

// ProbeEgress is the same for gates at the exit.
func ProbeEgress() error {
	if skBuffHere() == (skBuff{}) {
		return errors.New("the kernel does not tell programs how packets are tracked: it has no type information (BTF), or no conntrack")
	}
	return try(Gate{Egress: true, Sources: []netip.Prefix{netip.PrefixFrom(forged, forged.BitLen())}}, Leaking)
}

func try(g Gate, why Reason) error {
	const name = "lo"
	g.Link = name
	lo, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range []netip.Addr{probed, forged} {
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}); err != nil {
			return err
		}
	}
	if err := attach(g); err != nil {
		return fmt.Errorf("a program in the %s hook is refused: %w", g.at().hook(), err)
	}
	if err := sendBoth(); err != nil {
		return fmt.Errorf("a program in the %s hook: %w", g.at().hook(), err)
	}
	refused, err := Refused(name, g.Egress)
	if err == nil && refused[why] != 1 {
		err = fmt.Errorf("a program in the %s hook refused %d packets in place of 1", g.at().hook(), refused[why])
	}
	return err
}

// sendBoth sends from the forged address, and then from the other; only that is to
// arrive.
func sendBoth() error {
	in, err := bound(probed)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	to, err := unix.Getsockname(in)
	if err != nil {
		return err
	}
	for _, from := range []netip.Addr{forged, probed} {
		out, err := bound(from)
		if err == nil {
			err = errors.Join(unix.Sendto(out, []byte(from.String()), 0, to), unix.Close(out))
		}
		if err != nil {
			return err
		}
	}
	limit := unix.NsecToTimeval(arrives.Nanoseconds())
	if err := unix.SetsockoptTimeval(in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := unix.Read(in, b)
	if err != nil {
		return fmt.Errorf("nothing comes through: %w", err)
	}
	if string(b[:n]) != probed.String() {
		return errors.New("what it is to refuse comes through")
	}
	return nil
}

// bound is a UDP socket of the thread's namespace.
func bound(a netip.Addr) (int, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(s, &unix.SockaddrInet4{Addr: a.As4()}); err != nil {
		return -1, errors.Join(err, unix.Close(s))
	}
	return s, nil
}
