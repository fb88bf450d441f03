package nft

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// A street is a pod behind a node, and a host outside. Both listen.
type street struct{ pod, node, outside *netnstest.Host }

// listening is the port on which pod and outside answer.
const listening = 9000

// Where the houses of a street are.
var (
	podAt     = map[Family]netip.Addr{IPv4: addr("10.0.0.2"), IPv6: addr("fd00::2")}
	nodeAt    = map[Family]netip.Addr{IPv4: addr("192.0.2.1"), IPv6: addr("2001:db8::1")}
	spareAt   = map[Family]netip.Addr{IPv4: addr("192.0.2.100"), IPv6: addr("2001:db8::100")} // the node's too
	outsideAt = map[Family]netip.Addr{IPv4: addr("192.0.2.9"), IPv6: addr("2001:db8::9")}
)

func newStreet(t *testing.T) street {
	s := street{netnstest.New(t), netnstest.New(t), netnstest.New(t)}
	netnstest.Wire(s.pod, "eth0", s.node, "pod")
	netnstest.Wire(s.outside, "eth0", s.node, "out")
	s.pod.Address("eth0", "10.0.0.2/24", "fd00::2/64")
	s.node.Address("pod", "10.0.0.1/24", "fd00::1/64")
	s.node.Address("out", "192.0.2.1/24", "192.0.2.100/24", "2001:db8::1/64", "2001:db8::100/128")
	s.outside.Address("eth0", "192.0.2.9/24", "2001:db8::9/64")
	s.pod.Route("0.0.0.0/0", "10.0.0.1")
	s.pod.Route("::/0", "fd00::1")
	s.outside.Route("10.0.0.0/24", "192.0.2.1")
	s.outside.Route("fd00::/64", "2001:db8::1")
	s.node.Sysctl("net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1")
	serve(t, s.pod, "pod")
	serve(t, s.outside, "outside")
	return s
}

// serve answers every connection and datagram with the name and where it came
// from.
func serve(t *testing.T, h *netnstest.Host, name string) {
	t.Helper()
	var stream net.Listener
	var datagrams net.PacketConn
	h.Do(func() (err error) {
		if stream, err = net.Listen("tcp", fmt.Sprintf(":%d", listening)); err != nil {
			return err
		}
		datagrams, err = net.ListenPacket("udp", fmt.Sprintf(":%d", listening))
		return err
	})
	t.Cleanup(func() { stream.Close(); datagrams.Close() })
	go func() {
		for {
			c, err := stream.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, c.RemoteAddr())
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := datagrams.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = datagrams.WriteTo(fmt.Appendf(nil, "%s %s", name, from), from)
		}
	}()
}

// ask calls to from a port of h and returns who answered, and from where the
// caller seemed to come.
func ask(h *netnstest.Host, protocol byte, port uint16, to netip.AddrPort) (who string, from netip.AddrPort) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{Port: int(port)}}
	network := "tcp"
	if protocol == unix.IPPROTO_UDP {
		network, d.LocalAddr = "udp", &net.UDPAddr{Port: int(port)}
	}
	h.Do(func() error {
		c, err := d.Dial(network, to.String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		b := make([]byte, 100)
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return err
		}
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		var at string
		if _, err := fmt.Sscan(string(b[:n]), &who, &at); err != nil {
			return err
		}
		from, err = netip.ParseAddrPort(at)
		return err
	})
	return who, from
}

// forEachFlow runs f for both families and TCP and UDP.
func forEachFlow(t *testing.T, run func(t *testing.T, f Family, protocol byte)) {
	for _, f := range Families {
		for protocol, name := range map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"} {
			t.Run(f.Keyword()+" "+name, func(t *testing.T) {
				t.Parallel()
				run(t, f, protocol)
			})
		}
	}
}

func TestBlocksHoldOnTheWire(t *testing.T) {
	t.Parallel()
	const low, high = uint16(40000), uint16(40511)
	forEachFlow(t, func(t *testing.T, f Family, protocol byte) {
		s := newStreet(t)
		of := &Set{Name: "blocks", Type: f.AddrType(), Data: Concat(f.AddrType(), InetService), DataInterval: true,
			Elements: Sorted([]Element{{Key: Addr(podAt[f]), Data: Block(spareAt[f], low, high)}})}
		for _, random := range []bool{false, true} { // random ones would be in the way of the others
			apply(t, s.node, &Table{Name: "t", Sets: []*Set{of}, Chains: []*Chain{{Name: "c", Type: NAT, Hook: Postrouting, Priority: 99,
				Rules: []Rule{{L4Proto(protocol), SNAT{Family: f, Map: "blocks", Ports: true, FullyRandom: random}}}}}})
			kept := 0
			for i := range uint16(100) {
				port := low + i
				if random {
					port += 200
				}
				if i >= 50 {
					port += 1000 // not in the block
				}
				_, from := ask(s.pod, protocol, port, netip.AddrPortFrom(outsideAt[f], listening))
				if from.Addr() != spareAt[f] || from.Port() < low || from.Port() > high {
					t.Errorf("port %d came from %s", port, from)
				}
				if from.Port() == port {
					kept++
				}
			}
			if random == (kept == 50) {
				t.Errorf("random %v: %d of 50 ports inside the block were kept", random, kept)
			}
		}
	})
}

func TestKeptSourceIsNotMasqueraded(t *testing.T) {
	t.Parallel()
	forEachFlow(t, func(t *testing.T, f Family, protocol byte) {
		s := newStreet(t)
		later := &Chain{Name: "later", Type: NAT, Hook: Postrouting, Priority: 100, Rules: []Rule{{Masquerade{}}}}
		keep := &Chain{Name: "keep", Type: NAT, Hook: Postrouting, Priority: 99, Rules: []Rule{{KeepSource(f)}}}
		apply(t, s.node, &Table{Name: "t", Chains: []*Chain{later}})
		if _, from := ask(s.pod, protocol, 40000, netip.AddrPortFrom(outsideAt[f], listening)); from.Addr() == podAt[f] {
			t.Errorf("without: %s, want it masqueraded", from)
		}
		apply(t, s.node, &Table{Name: "t", Chains: []*Chain{keep, later}})
		if _, from := ask(s.pod, protocol, 40001, netip.AddrPortFrom(outsideAt[f], listening)); from != netip.AddrPortFrom(podAt[f], 40001) {
			t.Errorf("with: %s, want %s and its port", from, podAt[f])
		}
	})
}

func TestMapLeadsToThePod(t *testing.T) {
	t.Parallel()
	forEachFlow(t, func(t *testing.T, f Family, protocol byte) {
		s := newStreet(t)
		data := Concat(f.AddrType(), InetService)
		to := Endpoint(netip.AddrPortFrom(podAt[f], listening))
		ports := &Set{Name: "ports", Type: Concat(InetProto, InetService), Data: data,
			Elements: Sorted([]Element{{Key: Tuple(Proto(protocol), Port(80)), Data: to}})}
		endpoints := &Set{Name: "endpoints", Type: Concat(InetProto, f.AddrType(), InetService), Data: data,
			Elements: Sorted([]Element{{Key: Tuple(Proto(protocol), Addr(nodeAt[f]), Port(81)), Data: to}})}
		table := &Table{Name: "t", Sets: []*Set{ports, endpoints}}
		for _, hook := range []Hook{Prerouting, Output} {
			table.Chains = append(table.Chains, &Chain{Name: string(hook), Type: NAT, Hook: hook, Priority: -101, Rules: []Rule{
				{DaddrLocal(), DNAT(f, "ports", FieldProto, FieldDport)},
				{DNAT(f, "endpoints", FieldProto, FieldDaddr, FieldDport)},
			}})
		}
		apply(t, s.node, table)
		for i, port := range []uint16{80, 81} {
			at := netip.AddrPortFrom(nodeAt[f], port)
			if who, from := ask(s.outside, protocol, uint16(40000+i), at); who != "pod" || from.Addr() != outsideAt[f] {
				t.Errorf("%s from outside: %q saw %s", at, who, from)
			}
			if who, _ := ask(s.node, protocol, uint16(40000+i), at); who != "pod" {
				t.Errorf("%s from the node itself: answered by %q", at, who)
			}
		}
		if who, _ := ask(s.node, protocol, 40010, netip.AddrPortFrom(outsideAt[f], listening)); who != "outside" {
			t.Errorf("what no map has: answered by %q", who)
		}
	})
}
