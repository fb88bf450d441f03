package snat_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// Twenty pods that each open one connection to each of twenty ports: the kernel
// begins its search for a source port elsewhere for each.
const (
	callers     = 20
	services    = 20
	connections = callers * services
	firstPort   = 8000
)

// patience is how long a connection may take before it counts as lost. It is
// waited for only where some are lost.
const patience = 3 * time.Second

var (
	allPorts  = world.PortRange{Low: 1024, High: 65535} // what pods use
	letBackIn = world.PortRange{Low: 32768, High: 65535}
)

// Behind a stateless firewall that lets replies in to 32768-65535, random ports
// alone lose half of the connections, and none when they come from the node's
// ephemeral range.
func TestRepliesPassStatelessFirewall(t *testing.T) {
	for _, c := range []struct {
		name      string
		ports     string
		random    bool
		block     int
		low, high int // connections lost, in percent
	}{
		{"the kernel's choice", "kernel", false, 0, 20, 100},
		{"the kernel's choice at random", "kernel", true, 0, 35, 65},
		{"a range at random", "auto", true, 0, 0, 0},
		{"a block each", "auto", false, 512, 0, 0},
		{"a new install", "", false, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, outside := firewallCluster(t)
			w := n.Apply(choosing(c.ports, c.random, c.block))
			serve(t, outside)
			ports := map[flow]*seen{}
			stop := netnstest.Watch(outside, "eth0", func(p netnstest.Packet) { note(ports, p) })
			lost := callAll(t, n)
			stop()
			for f, count := range lost {
				t.Logf("%s: %d of %d lost, source ports %s", f, count, connections, ports[f])
				if percent := count * 100 / connections; percent < c.low || percent > c.high || c.high == 0 && count > 0 {
					t.Errorf("%s: %d of %d connections lost, want %d to %d %%", f, count, connections, c.low, c.high)
				}
			}
			for _, f := range flows {
				p := ports[f]
				if p == nil || p.packets < connections {
					t.Fatalf("%s: the outside saw %s, want one packet of each connection at least", f, p)
				}
				if r := snat.InForce(w).Range; r.High != 0 && (p.Low < r.Low || p.High > r.High) {
					t.Errorf("%s: source ports seen outside are %s, want none beyond %s", f, p, r)
				}
			}
		})
	}
}

// flows are all that pods send.
var flows = []flow{
	{unix.IPPROTO_TCP, nft.IPv4}, {unix.IPPROTO_TCP, nft.IPv6},
	{unix.IPPROTO_UDP, nft.IPv4}, {unix.IPPROTO_UDP, nft.IPv6},
	{unix.IPPROTO_ICMP, nft.IPv4}, {unix.IPPROTO_ICMP, nft.IPv6},
}

// seen is the least range that holds the source ports of some packets.
type seen struct {
	world.PortRange
	packets int
}

func (s *seen) String() string {
	if s == nil {
		return "none"
	}
	return fmt.Sprintf("%s (%d packets)", s.PortRange, s.packets)
}

func note(ports map[flow]*seen, p netnstest.Packet) {
	f := flow{p.Protocol, nft.IPv4}
	if p.Source.Addr().Is6() {
		f.family = nft.IPv6
	}
	if f.protocol == unix.IPPROTO_ICMPV6 {
		f.protocol = unix.IPPROTO_ICMP
	}
	if f.protocol != unix.IPPROTO_ICMP && (p.Port < firstPort || p.Port >= firstPort+services) {
		return
	}
	port := p.Source.Port()
	if ports[f] == nil {
		ports[f] = &seen{PortRange: world.PortRange{Low: port, High: port}}
	}
	s := ports[f]
	s.Low, s.High, s.packets = min(s.Low, port), max(s.High, port), s.packets+1
}

// server is the host behind the firewall.
var server = []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:2::10")}

// firewallCluster is a node with pods that use any source port, and a host
// outside behind a firewall that remembers nothing.
func firewallCluster(t *testing.T) (*cluster.Node, *netnstest.Host) {
	n, firewall, outside := cluster.NewNode(t, 1), netnstest.New(t), netnstest.New(t)
	n.Wire(firewall, "inside")
	netnstest.Wire(firewall, "outside", outside, "eth0")
	firewall.Address("inside", "192.0.2.254/24", "2001:db8:1::254/64")
	firewall.Address("outside", "198.51.100.1/24", "2001:db8:2::1/64")
	firewall.Sysctl("net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1")
	outside.Address("eth0", "198.51.100.10/24", "2001:db8:2::10/64")
	outside.Route("0.0.0.0/0", "198.51.100.1")
	outside.Route("::/0", "2001:db8:2::1")
	n.Route("0.0.0.0/0", "192.0.2.254")
	n.Route("::/0", "2001:db8:1::254")
	reply := func(protocol byte, more ...nft.Expr) nft.Rule {
		return append(append(nft.Rule{nft.IIFName("outside"), nft.L4Proto(protocol)}, more...), nft.Accept())
	}
	firewall.Do(func() error {
		return nft.Apply(nft.Diff(nil, []*nft.Table{{Name: "firewall", Chains: []*nft.Chain{{
			Name: "forward", Type: nft.Filter, Hook: nft.Forward, Rules: []nft.Rule{
				reply(unix.IPPROTO_TCP, nft.Dport(letBackIn.Low, letBackIn.High)),
				reply(unix.IPPROTO_UDP, nft.Dport(letBackIn.Low, letBackIn.High)),
				reply(unix.IPPROTO_ICMP), reply(unix.IPPROTO_ICMPV6),
				{nft.IIFName("outside"), nft.Drop()},
			},
		}}}}))
	})
	// All send at once, before hardware addresses are known: none may be thrown away.
	wait := func(h *netnstest.Host, link string) {
		h.Sysctl("net/ipv4/neigh/"+link+"/unres_qlen_bytes", "4194304", "net/ipv6/neigh/"+link+"/unres_qlen_bytes", "4194304")
	}
	wait(n.Host, cluster.Uplink)
	wait(firewall, "inside")
	wait(firewall, "outside")
	wait(outside, "eth0")
	for range callers {
		n.NewPod().Sysctl("net/ipv4/ip_local_port_range", fmt.Sprintf("%d %d", allPorts.Low, allPorts.High))
	}
	return n, outside
}

// serve answers on every service's port until the test ends. TCP connections
// are only accepted, which the kernel does.
func serve(t *testing.T, h *netnstest.Host) {
	for i := range services {
		for _, a := range server {
			to := netip.AddrPortFrom(a, uint16(firstPort+i))
			h.Do(func() error {
				l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(to))
				if err != nil {
					return err
				}
				t.Cleanup(func() { must(t, l.Close()) })
				c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(to))
				if err != nil {
					return err
				}
				echo(t, c)
				return nil
			})
		}
	}
}

// open makes a socket in h, closed when the test ends.
func open(t *testing.T, h *netnstest.Host, to netip.AddrPort, kind int) (fd int) {
	t.Helper()
	h.Do(func() (err error) {
		fd, err = unix.Socket(domain(to.Addr()), kind|unix.SOCK_CLOEXEC, 0)
		return err
	})
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	return fd
}

// echo sends datagrams back until the test ends.
func echo(t *testing.T, c net.PacketConn) {
	done := make(chan error, 1)
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err == nil {
				_, err = c.WriteTo(b[:n], from)
			}
			if err != nil {
				done <- err
				return
			}
		}
	}()
	t.Cleanup(func() {
		must(t, c.Close())
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A call is one socket that waits for its answer.
type call struct {
	fd   int
	flow flow
}

// callAll opens every connection at once and returns how many got no answer.
func callAll(t *testing.T, n *cluster.Node) map[flow]int {
	var calls []call
	lost := map[flow]int{}
	for _, p := range n.Pods {
		for i := range services {
			for _, f := range flows {
				to := netip.AddrPortFrom(f.of(server), uint16(firstPort+i))
				if f.protocol == unix.IPPROTO_ICMP {
					ping(p.Host, to)
					continue
				}
				lost[f]++
				calls = append(calls, call{dial(t, p.Host, f, to), f})
			}
		}
	}
	for f, n := range answered(t, calls) {
		lost[f] -= n
	}
	return lost
}

// dial sends a connection's first packet.
func dial(t *testing.T, h *netnstest.Host, f flow, to netip.AddrPort) int {
	kind := unix.SOCK_STREAM
	if f.protocol == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	fd := open(t, h, to, kind|unix.SOCK_NONBLOCK)
	if err := unix.Connect(fd, sockaddr(to)); !errors.Is(err, unix.EINPROGRESS) {
		must(t, err)
	}
	if f.protocol == unix.IPPROTO_UDP {
		_, err := unix.Write(fd, []byte{0})
		must(t, err)
	}
	return fd
}

// answered waits until every call has its answer, or for as long as patience
// lasts.
func answered(t *testing.T, calls []call) map[flow]int {
	poll, out := make([]unix.PollFd, len(calls)), map[flow]int{}
	for i, c := range calls {
		poll[i] = unix.PollFd{Fd: int32(c.fd), Events: unix.POLLIN}
		if c.flow.protocol == unix.IPPROTO_TCP {
			poll[i].Events = unix.POLLOUT
		}
	}
	left := len(calls)
	for end := time.Now().Add(patience); left > 0 && time.Now().Before(end); {
		if _, err := unix.Poll(poll, int(time.Until(end).Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		for i := range poll {
			if poll[i].Revents == 0 {
				continue
			}
			if poll[i].Revents&poll[i].Events != 0 && poll[i].Revents&unix.POLLERR == 0 {
				out[calls[i].flow]++
			}
			poll[i].Fd, poll[i].Revents = -1, 0
			left--
		}
	}
	return out
}

// ping sends an echo request with any identifier, and expects nothing.
func ping(h *netnstest.Host, to netip.AddrPort) {
	protocol, request := unix.IPPROTO_ICMP, []byte{8, 0, 0, 0, 0, 0, 0, 0}
	if to.Addr().Is6() {
		protocol, request[0] = unix.IPPROTO_ICMPV6, 128
	}
	id := uint16(allPorts.Low) + uint16(rand.IntN(allPorts.Len()))
	binary.BigEndian.PutUint16(request[4:], id)
	if to.Addr().Is4() {
		binary.BigEndian.PutUint16(request[2:], fold(sum(request)))
	}
	h.Do(func() error {
		fd, err := unix.Socket(domain(to.Addr()), unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, request, 0, sockaddr(netip.AddrPortFrom(to.Addr(), 0)))
	})
}
