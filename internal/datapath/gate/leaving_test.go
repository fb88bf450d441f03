package gate_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What the sources send leaves for some only; what others send leaves. A link without
// Ethernet headers has the same gate as one with them.
func TestWhatLeavesThroughAGate(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"eth0", "tun0"} {
		for i, g := range []gate.Gate{
			{Sources: prefixes("10.244.1.0/24", "10.9.0.0/16", "fd00:1::/64"), To: prefixes("10.244.0.0/16", "192.0.2.7/32", "fd00::/16", "2001:db8::7/128")},
			{Sources: prefixes("10.244.1.0/24")},
		} {
			g.Link, g.Egress = link, true
			t.Run(g.String(), func(t *testing.T) {
				t.Parallel()
				x := newExit(t, g)
				for _, c := range []struct {
					from, to string
					leaves   bool
				}{
					{"10.244.1.1", "10.244.9.9", i == 0}, {"10.244.1.255", "192.0.2.7", i == 0}, {"10.244.1.1", "192.0.2.6", false}, {"10.244.1.1", "224.0.0.1", false},
					{"10.9.255.1", "8.8.8.8", i == 1}, {"10.8.255.255", "8.8.8.8", true}, {"10.244.2.1", "8.8.8.8", true}, {"192.0.2.1", "8.8.8.8", true},
					{"fd00:1::1", "fd00:ffff::1", true}, {"fd00:1::1", "2001:db8::7", true}, {"fd00:1::1", "2001:db8::8", i == 1}, {"fd00:1:0:1::1", "2001:db8::8", true},
					{"fd00:1::ffff", "::10.244.1.1", i == 1},
				} {
					if got := x.leaves(c.from, c.to); got != c.leaves {
						t.Errorf("%s to %s: leaves is %v, want %v", c.from, c.to, got, c.leaves)
					}
				}
			})
		}
	}
}

// Who is new among those to whom the sources may send is one entry; other sources are
// other instructions. All is read as it was made, and taken away again.
func TestAGateAtTheExitChanges(t *testing.T) {
	t.Parallel()
	g := gate.Gate{Link: "eth0", Egress: true, Sources: prefixes("10.244.1.0/24"), To: prefixes("10.244.0.0/16")}
	more, other := g, g
	more.To = prefixes("10.244.0.0/16", "192.0.2.7/32")
	other.Sources, other.To = prefixes("10.244.2.0/24"), more.To
	x := newExit(t, g)
	for _, c := range []struct {
		want   []gate.Gate
		change string
		leaves map[[2]string]bool
	}{
		{[]gate.Gate{g}, "", map[[2]string]bool{{"10.244.1.1", "192.0.2.7"}: false}},
		{[]gate.Gate{more}, "gate dev eth0 egress add 192.0.2.7", map[[2]string]bool{{"10.244.1.1", "192.0.2.7"}: true, {"10.244.1.1", "192.0.2.8"}: false}},
		{[]gate.Gate{other}, other.String(), map[[2]string]bool{{"10.244.1.1", "192.0.2.8"}: true, {"10.244.2.1", "192.0.2.8"}: false}},
		{nil, "gate dev eth0 egress open", map[[2]string]bool{{"10.244.2.1", "192.0.2.8"}: true}},
	} {
		var did string
		x.node.Do(func() error {
			have, err := gate.Read("fl-")
			if err != nil {
				return err
			}
			add, del := gate.Diff(have, c.want, func(string) bool { return true })
			for _, one := range append(add, del...) {
				did += one.String()
				err = errors.Join(err, one.Apply())
			}
			return err
		})
		if did != c.change {
			t.Errorf("changes %q, want %q", did, c.change)
		}
		for who, leaves := range c.leaves {
			if got := x.leaves(who[0], who[1]); got != leaves {
				t.Errorf("%v: leaves is %v, want %v", who, got, leaves)
			}
		}
	}
}

// The entrance of a link and its exit have a gate each.
func TestGatesOfBothSides(t *testing.T) {
	t.Parallel()
	out := gate.Gate{Link: "fl-both", Egress: true, Sources: prefixes("192.0.2.0/24"), To: prefixes("192.0.2.0/24")}
	in := gate.Gate{Link: "fl-both", Sources: prefixes("192.0.2.0/24")}
	h := netnstest.New(t)
	netnstest.Wire(h, "fl-both", h, "other")
	h.Do(func() error {
		if err := change(nil, []gate.Gate{in, out}); err != nil {
			return err
		}
		for _, prefix := range []string{"fl-", "other"} { // at the entrance of one's own, and at the exit of others'
			have, err := gate.Read(prefix)
			if err != nil || len(have) != 1 || have[0].Link != "fl-both" || have[0].Egress != (prefix == "other") {
				return fmt.Errorf("gates %v, %w", have, err)
			}
		}
		if err := change([]gate.Gate{in, out}, []gate.Gate{out}); err != nil {
			return err
		}
		if _, err := gate.Refused("fl-both", false); !errors.Is(err, gate.ErrNone) {
			return fmt.Errorf("the gate at the entrance is there: %w", err)
		}
		_, err := gate.Refused("fl-both", true)
		return err
	})
}

// An exit is a node's link to the outside.
type exit struct {
	t       *testing.T
	node    *netnstest.Host
	link    string
	receive func() []byte // what leaves next, from its IP header on
	refused uint64
	last    byte
}

func newExit(t *testing.T, g gate.Gate) *exit {
	t.Helper()
	x := &exit{t: t, node: netnstest.New(t), link: g.Link}
	if g.Link == "tun0" {
		x.receive = x.tun()
	} else {
		x.receive = x.wire()
	}
	if g.Link != "tun0" { // what stays is not counted in the kernel's table
		x.node.Run("ip", "neigh", "add", "203.0.113.2", "lladdr", "02:00:00:00:00:01", "dev", g.Link, "nud", "permanent")
	}
	x.node.Run("ip", "link", "set", g.Link, "arp", "off")
	x.node.Run("ip", "link", "set", g.Link, "up")
	for _, family := range []string{"-4", "-6"} {
		x.node.Run("ip", family, "route", "add", "default", "dev", g.Link)
	}
	x.node.Do(func() error { return change(nil, []gate.Gate{g}) })
	return x
}

func (x *exit) wire() func() []byte {
	outside := netnstest.New(x.t)
	netnstest.Wire(x.node, x.link, outside, "eth0")
	var s int
	outside.Do(func() (err error) { s, err = packetSocket("eth0", unix.ETH_P_ALL); return err })
	x.t.Cleanup(func() { _ = unix.Close(s) })
	return x.packets(s, 14)
}

// tun is a link whose packets a program takes.
func (x *exit) tun() func() []byte {
	var s int
	x.node.Do(func() (err error) {
		if s, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(x.link)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(s, unix.TUNSETIFF, request)
	})
	x.t.Cleanup(func() { _ = unix.Close(s) })
	return x.packets(s, 0)
}

// packets are those read from s, without a header of the given length.
func (x *exit) packets(s, header int) func() []byte {
	return func() []byte {
		x.t.Helper()
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}}, int(within.Milliseconds())); n != 1 {
			x.t.Fatalf("nothing leaves: %v", err)
		}
		b := make([]byte, 2000)
		n, err := unix.Read(s, b)
		if err != nil || n <= header {
			x.t.Fatalf("read %d bytes: %v", n, err)
		}
		return b[header:n]
	}
}

// leaves reports whether a datagram leaves; else it is counted. One that does neither is
// sent again: the kernel's table of neighbours, which all namespaces share, may be full.
func (x *exit) leaves(from, to string) bool {
	x.t.Helper()
	for range 50 {
		if came, counted := x.try(from, to); came != counted {
			return came
		} else if came {
			x.t.Fatalf("%s to %s: it leaves, and is counted", from, to)
		}
		time.Sleep(20 * time.Millisecond)
	}
	x.t.Fatalf("%s to %s: it does not leave, and is not counted", from, to)
	return false
}

// try sends a datagram, and one behind it. The last byte tells each from all before.
func (x *exit) try(from, to string) (came, counted bool) {
	x.t.Helper()
	x.last += 2
	asked, behind := x.last, x.last+1
	x.send(from, to, asked)
	x.send("203.0.113.1", "203.0.113.2", behind)
	for {
		b := x.receive()
		came = came || b[len(b)-1] == asked
		if b[len(b)-1] == behind {
			break
		}
	}
	var now gate.Counts
	x.node.Do(func() (err error) {
		if now, err = gate.Refused(x.link, true); errors.Is(err, gate.ErrNone) {
			now, err = gate.Counts{gate.Leaking: x.refused}, nil
		}
		return err
	})
	if now[gate.Leaking] < x.refused {
		x.refused = 0 // it is a new one
	}
	counted = now[gate.Leaking] > x.refused
	x.refused = now[gate.Leaking]
	return came, counted
}

// send sends a datagram of anybody's by the node's routes.
func (x *exit) send(from, to string, last byte) {
	x.t.Helper()
	dest := netip.MustParseAddr(to)
	domain, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: dest.As16()})
	var b []byte
	if dest.Is4() {
		domain, address = unix.AF_INET, &unix.SockaddrInet4{Addr: dest.As4()}
		b = ipv4(from, to, last)
	} else {
		b = ipv6(from, unix.IPPROTO_UDP, last)
		copy(b[24:], dest.AsSlice())
	}
	x.node.Do(func() error {
		s, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		return errors.Join(unix.Sendto(s, b, 0, address), unix.Close(s))
	})
}
