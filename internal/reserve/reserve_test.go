package reserve_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

const number = 61000

// A side is one family of a node and its client.
type side struct {
	name         string
	ipv6         bool
	node, client netip.Addr
}

var sides = []side{
	{"IPv4", false, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	{"IPv6", true, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")},
}

func (s side) port(protocol byte) world.Port {
	return world.Port{IPv6: s.ipv6, Protocol: protocol, Number: number}
}

// A scene is a node, whose keeper k is, and its client.
type scene struct {
	t            *testing.T
	node, client *netnstest.Host
	k            *reserve.Keeper
}

func newScene(t *testing.T) *scene {
	s := &scene{t, netnstest.New(t), netnstest.New(t), reserve.New()}
	netnstest.Wire(s.node, "eth0", s.client, "eth0")
	s.node.Address("eth0", "192.0.2.1/24", "2001:db8::1/64")
	s.client.Address("eth0", "192.0.2.2/24", "2001:db8::2/64")
	t.Cleanup(func() {
		if err := s.k.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *scene) hold(want ...world.Port) (h reserve.Held) {
	s.t.Helper()
	s.node.Do(func() error { h = s.k.Hold(sorted.Of(slices.Clone(want), world.Port.Compare)); return nil })
	return h
}

func (s *scene) reserved(want ...world.Port) {
	s.t.Helper()
	if h := s.hold(want...); !h.Equal(reserve.Held{Reserved: len(want)}) {
		s.t.Fatalf("of %v: %+v", want, h)
	}
	if got := s.k.Ports(); !slices.Equal(got, want) {
		s.t.Fatalf("holds %v, want %v", got, want)
	}
}

// attempt is what somebody's socket on the node comes to: bound to an address and
// the port, with options set to 1. It is closed when the test ends.
type attempt struct {
	name    string
	domain  int
	kind    int
	address netip.Addr
	options [][2]int
	listens bool
}

var (
	reuseAddress = [2]int{unix.SOL_SOCKET, unix.SO_REUSEADDR}
	reusePort    = [2]int{unix.SOL_SOCKET, unix.SO_REUSEPORT}
	freeBind     = [2]int{unix.SOL_IP, unix.IP_FREEBIND}
	only6        = [2]int{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}
)

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// make makes the socket on the node.
func (a attempt) make(s *scene) (*os.File, error) {
	s.t.Helper()
	var fd int
	s.node.Do(func() (err error) {
		fd, err = unix.Socket(a.domain, a.kind|unix.SOCK_CLOEXEC, 0)
		return err
	})
	file := os.NewFile(uintptr(fd), a.name)
	s.t.Cleanup(func() { file.Close() })
	for _, o := range a.options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
			s.t.Fatal(err)
		}
	}
	err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(a.address, number)))
	if err == nil && a.listens {
		err = unix.Listen(fd, 1)
	}
	return file, err
}

// attempts are those of one side and one kind of socket.
func (s side) attempts(kind int) (out []attempt) {
	domain, wildcard, loopback := unix.AF_INET, netip.IPv4Unspecified(), netip.MustParseAddr("127.0.0.1")
	if s.ipv6 {
		domain, wildcard, loopback = unix.AF_INET6, netip.IPv6Unspecified(), netip.IPv6Loopback()
	}
	listens := kind == unix.SOCK_STREAM
	for _, at := range []struct {
		name    string
		address netip.Addr
	}{{"wildcard", wildcard}, {"the node's address", s.node}, {"loopback", loopback}} {
		for name, options := range map[string][][2]int{"": nil, " SO_REUSEADDR": {reuseAddress}, " SO_REUSEPORT": {reusePort},
			" SO_REUSEADDR SO_REUSEPORT": {reuseAddress, reusePort}, " IP_FREEBIND": {freeBind}} {
			if s.ipv6 {
				options = append(options, only6)
			}
			out = append(out, attempt{at.name + name, domain, kind, at.address, options, listens})
			if listens {
				out = append(out, attempt{at.name + name + " not listening", domain, kind, at.address, options, false})
			}
		}
	}
	return append(out, attempt{"both families", unix.AF_INET6, kind, netip.IPv6Unspecified(), [][2]int{reuseAddress}, listens})
}

var protocols = []struct {
	name     string
	protocol byte
	kind     int
}{{"tcp", unix.IPPROTO_TCP, unix.SOCK_STREAM}, {"udp", unix.IPPROTO_UDP, unix.SOCK_DGRAM}}

// bySide runs f for every protocol and family, each with a node of its own.
func bySide(t *testing.T, f func(*testing.T, side, world.Port, int)) {
	for _, p := range protocols {
		for _, s := range sides {
			t.Run(p.name+s.name, func(t *testing.T) {
				t.Parallel()
				f(t, s, s.port(p.protocol), p.kind)
			})
		}
	}
}

// To the kernel it makes no difference to which process of a user a socket belongs.
func TestNobodyElseCanBindAHeldPort(t *testing.T) {
	bySide(t, func(t *testing.T, s side, p world.Port, kind int) {
		c := newScene(t)
		for _, a := range s.attempts(kind) {
			c.reserved(p)
			if _, err := a.make(c); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("%s beside a held port: %v", a.name, err)
			}
			c.reserved()
			other, err := a.make(c)
			if err != nil {
				t.Errorf("%s where nobody holds the port: %v", a.name, err)
			}
			other.Close()
		}
	})
}

func TestAPortThatSomebodyHoldsIsTaken(t *testing.T) {
	bySide(t, func(t *testing.T, s side, p world.Port, kind int) {
		c := newScene(t)
		other := p
		other.IPv6 = !p.IPv6
		for _, a := range s.attempts(kind) {
			theirs, err := a.make(c)
			if err != nil {
				t.Fatalf("%s: %v", a.name, err)
			}
			want := reserve.Held{Taken: []world.Port{p}, Reserved: 1}
			if a.name == "both families" {
				want = reserve.Held{Taken: []world.Port{p, other}}
				slices.SortFunc(want.Taken, world.Port.Compare)
			}
			if h := c.hold(p, other); !h.Equal(want) {
				t.Errorf("%s: %+v, want %+v", a.name, h, want)
			}
			theirs.Close()
			if h := c.hold(other, p, p); !h.Equal(reserve.Held{Reserved: 2}) {
				t.Errorf("%s has gone: %+v", a.name, h)
			}
			c.reserved()
		}
	})
}

// While there is no rule, a client must not hang.
func TestAClientIsRefused(t *testing.T) {
	c := newScene(t)
	c.reserved(sides[0].port(unix.IPPROTO_TCP), sides[1].port(unix.IPPROTO_TCP))
	for _, s := range sides {
		for _, from := range []*netnstest.Host{c.client, c.node} {
			from.Do(func() error {
				conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(s.node, number).String(), 10*time.Second)
				if !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: %v, %v", s.name, conn, err)
				}
				return nil
			})
		}
	}
}

// dial connects from the node's port, and returns both ends.
func (s *scene) dial(by side, port int) (ours, theirs net.Conn) {
	s.t.Helper()
	var l net.Listener
	s.client.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(by.client, 0).String())
		return err
	})
	defer l.Close()
	s.node.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}}
		ours, err = d.Dial("tcp", l.Addr().String())
		return err
	})
	theirs, err := l.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// reset ends a connection at once, at both ends.
func reset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// waitOut ends a connection in such a way that first stays in TIME_WAIT.
func waitOut(t *testing.T, first, second net.Conn) {
	t.Helper()
	for _, end := range [][2]net.Conn{{first, second}, {second, first}} {
		if err := end[0].(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := end[1].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	first.Close()
	second.Close()
}

// timeWait counts the node's connections in TIME_WAIT. It starts no program, which
// would hold all sockets of this one until it has begun.
func (s *scene) timeWait() (n int) {
	s.t.Helper()
	for _, list := range []string{"tcp", "tcp6"} {
		s.node.Do(func() error {
			all, err := os.ReadFile("/proc/thread-self/net/" + list)
			n += strings.Count(string(all), " 06 00000000:00000000 ") // proc_net_tcp in the kernel's documentation
			return err
		})
	}
	return n
}

// The source port of a connection is taken, and so it is while the end that closed
// first waits out a minute; nothing is left of a connection that was reset.
func TestTheSourcePortOfAConnectionIsTaken(t *testing.T) {
	for _, s := range sides {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, chosenBy := range []string{"the program", "the kernel"} {
				c := newScene(t)
				p, port := s.port(unix.IPPROTO_TCP), number
				if chosenBy == "the kernel" {
					c.node.Sysctl("net/ipv4/ip_local_port_range", "61000 61000")
					port = 0
				}
				taken := reserve.Held{Taken: []world.Port{p}}
				ours, theirs := c.dial(s, port)
				if h := c.hold(p); !h.Equal(taken) {
					t.Errorf("chosen by %s, connected: %+v", chosenBy, h)
				}
				waitOut(t, ours, theirs)
				if n := c.timeWait(); n != 1 {
					t.Fatalf("%d connections are in TIME_WAIT", n)
				}
				if h := c.hold(p); !h.Equal(taken) {
					t.Errorf("chosen by %s, in TIME_WAIT: %+v", chosenBy, h)
				}
			}
			c := newScene(t)
			ours, _ := c.dial(s, number)
			reset(t, ours)
			c.reserved(s.port(unix.IPPROTO_TCP))
		})
	}
}

// The kernel never chooses a held port for a connection that goes out.
func TestAHeldPortIsNoSourcePort(t *testing.T) {
	for _, s := range sides {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			c := newScene(t)
			c.node.Sysctl("net/ipv4/ip_local_port_range", "61000 61001")
			c.reserved(s.port(unix.IPPROTO_TCP), s.port(unix.IPPROTO_UDP))
			for range 20 {
				ours, _ := c.dial(s, 0)
				if got := ours.LocalAddr().(*net.TCPAddr).Port; got != number+1 {
					t.Fatalf("a connection goes out from port %d", got)
				}
				reset(t, ours)
				c.node.Do(func() error {
					u, err := net.Dial("udp", netip.AddrPortFrom(s.client, 9).String())
					if err != nil {
						return err
					}
					defer u.Close()
					if got := u.LocalAddr().(*net.UDPAddr).Port; got != number+1 {
						t.Errorf("a datagram goes out from port %d", got)
					}
					return nil
				})
			}
		})
	}
}
