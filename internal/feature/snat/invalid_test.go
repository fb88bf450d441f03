package snat_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// A segment is of TCP, without data.
type segment struct {
	from, to netip.AddrPort
	flags    nft.TCPFlag
	sequence uint32
	ack      uint32
}

// send sends it by the host's routes.
func (s segment) send(h *netnstest.Host) {
	p := newPacket(unix.IPPROTO_TCP, s.from.Addr(), s.to.Addr())
	p.sum -= sum(p.transport)
	binary.BigEndian.PutUint32(p.transport[4:], s.sequence)
	binary.BigEndian.PutUint32(p.transport[8:], s.ack)
	p.transport[13] = byte(s.flags)
	p.sum += sum(p.transport)
	p.setPorts(s.from.Port(), s.to.Port())
	h.Do(func() error { return sendWhole(p.bytes, s.to.Addr()) })
}

func sendWhole(b []byte, to netip.Addr) error {
	fd, err := unix.Socket(domain(to), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	return errors.Join(unix.Sendto(fd, b, 0, sockaddr(netip.AddrPortFrom(to, 0))), unix.Close(fd))
}

// What conntrack does not know, or somebody keeps from it, meets no translation. It
// leaves the node with no pod's address all the same.
func TestNothingLeavesWithAPodsAddress(t *testing.T) {
	onEachKernel(t, func(t *testing.T, n *cluster.Node) {
		outside := netnstest.New(t)
		n.Wire(outside, "eth0")
		outside.Address("eth0", "192.0.2.100/24", "2001:db8:1::100/64")
		p := n.NewPod()
		w := n.Apply(v1alpha1.AgentConfigSpec{})
		n.Run("nft", "table inet untracked { chain prerouting { type filter hook prerouting priority -310; udp dport 5000 notrack; }; }")
		l := watchLeaks(t, outside, p)
		l.provoke()
		l.over()
		if n.WithoutTCX {
			return
		}
		n.Do(func() error {
			for _, f := range doctor.Run(context.Background(), doctor.Node{Subject: doctor.Subject{World: w}}, snat.Feature.Checks) {
				if f.Object == "interface eth0" && f.Evidence["packets"].(uint64) > 0 {
					return nil
				}
			}
			return errors.New("doctor does not tell of leaks")
		})
		// Nor while somebody's flush has taken all rules away.
		n.Run("nft", "flush", "ruleset")
		l.provoke()
		n.Repair()
		l.over()
	})
}

// onEachKernel runs what programs do, and what rules do elsewhere.
func onEachKernel(t *testing.T, f func(*testing.T, *cluster.Node)) {
	t.Helper()
	for _, without := range []bool{false, true} {
		t.Run(fmt.Sprintf("tcx %v", !without), func(t *testing.T) {
			n := cluster.NewNode(t, 1)
			n.WithoutTCX = without
			f(t, n)
		})
	}
}

// leaks counts outside what comes with the addresses of a pod.
type leaks struct {
	t       *testing.T
	pod     *cluster.Pod
	outside *netnstest.Host
	counted func() map[netip.AddrPort]int
	last    chan struct{} // something came that was sent behind all else
}

const lastPort = 9999 // what is sent here comes behind all that was sent before

func watchLeaks(t *testing.T, outside *netnstest.Host, p *cluster.Pod) *leaks {
	t.Helper()
	l := &leaks{t: t, pod: p, outside: outside, last: make(chan struct{}, 100)}
	counts := map[netip.AddrPort]int{}
	stop := netnstest.Watch(outside, "eth0", func(seen netnstest.Packet) {
		switch from := seen.Source.Addr(); {
		case from == p.Addresses[0] || from == p.Addresses[1]:
			counts[netip.AddrPortFrom(from, seen.Port)]++
		case seen.Port == lastPort:
			l.last <- struct{}{}
		}
	})
	l.counted = func() map[netip.AddrPort]int { stop(); return counts }
	t.Cleanup(func() {
		for to, count := range l.counted() {
			t.Errorf("%d packets with %s left for port %d", count, to.Addr(), to.Port())
		}
	})
	return l
}

// provoke has the pod send what nobody translates.
func (l *leaks) provoke() {
	for i, to := range outsideAddresses {
		for j, flags := range []nft.TCPFlag{nft.FIN | nft.ACK, nft.RST, nft.RST | nft.ACK, nft.SYN | nft.ACK, nft.FIN | nft.PSH | nft.URG, nft.SYN} {
			segment{from: netip.AddrPortFrom(l.pod.Addresses[i], 4000), to: netip.AddrPortFrom(to, uint16(8000+j)), flags: flags, sequence: 1, ack: 1}.send(l.pod.Host)
		}
		l.datagram(i, 5000)
	}
}

func (l *leaks) datagram(i int, port uint16) {
	to := outsideAddresses[i]
	d := newPacket(unix.IPPROTO_UDP, l.pod.Addresses[i], to)
	d.setPorts(4000, port)
	l.pod.Do(func() error { return sendWhole(d.bytes, to) })
}

// over waits until all that was sent has left.
func (l *leaks) over() {
	l.t.Helper()
	for i := range outsideAddresses {
		l.datagram(i, lastPort)
	}
	for range outsideAddresses {
		select {
		case <-l.last:
		case <-time.After(patience):
			l.t.Fatal("the last packet did not arrive translated")
		}
	}
}

// asks asks from a host until the server hears it, and returns as whom: the kernel takes a
// moment until a new link takes packets.
func asks(t *testing.T, from *netnstest.Host, at netip.AddrPort, server net.PacketConn) net.Addr {
	t.Helper()
	var c net.Conn
	from.Do(func() (err error) { c, err = net.Dial("udp", at.String()); return err })
	t.Cleanup(func() { _ = c.Close() })
	for deadline := time.Now().Add(patience); ; {
		_, err := io.WriteString(c, word)
		if err = errors.Join(err, server.SetReadDeadline(time.Now().Add(20*time.Millisecond))); err != nil {
			t.Fatal(err)
		}
		_, as, err := server.ReadFrom(make([]byte, len(word)))
		if err == nil && as.(*net.UDPAddr).AddrPort().Addr().Unmap().Is4() == at.Addr().Is4() {
			return as
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody heard what was sent to %s: %v", at, err)
		}
	}
}

// Who asked at an address of the node is answered by it, or not at all: the pod answers
// while somebody's flush has taken away what leads there and back.
func TestAHostPortDoesNotAnswerAsItsPod(t *testing.T) {
	if !gate.KnowsTranslation() {
		t.Fatal("this kernel does not tell programs of translation: run the tests on one with conntrack built in")
	}
	n, outside := cluster.NewNode(t, 1), netnstest.New(t)
	n.Wire(outside, "eth0")
	outside.Address("eth0", "192.0.2.100/24", "2001:db8:1::100/64")
	p := n.NewPod()
	p.HostPorts = []world.HostPort{{Port: 8080, Protocol: unix.IPPROTO_UDP, PodPort: 80}}
	n.Apply(v1alpha1.AgentConfigSpec{})
	var server net.PacketConn
	p.Do(func() (err error) { server, err = net.ListenPacket("udp", ":80"); return err })
	t.Cleanup(func() { _ = server.Close() })
	l := watchLeaks(t, outside, p)
	var clients []net.Addr
	for _, a := range n.Addresses {
		clients = append(clients, asks(t, outside, netip.AddrPortFrom(a, 8080), server))
	}
	n.Run("nft", "flush ruleset; table inet somebodys { chain c { type filter hook prerouting priority 0; ct state new counter; }; }")
	for _, to := range clients {
		if _, err := server.WriteTo([]byte(word), to); err != nil {
			t.Fatal(err)
		}
	}
	n.Repair()
	l.over()
}

// Somebody outside who knows the way to a pod is answered by the pod: it did not ask
// first, and the answer is nobody else's.
func TestWhoKnowsTheWayToAPodIsAnsweredByIt(t *testing.T) {
	onEachKernel(t, func(t *testing.T, n *cluster.Node) {
		outside := netnstest.New(t)
		n.Wire(outside, "eth0")
		outside.Address("eth0", "192.0.2.100/24", "2001:db8:1::100/64")
		p := n.NewPod()
		n.Apply(v1alpha1.AgentConfigSpec{})
		for i, a := range p.Addresses {
			outside.Run("ip", "route", "add", a.String(), "via", n.Addresses[i].String())
			var l net.Listener
			p.Do(func() (err error) {
				l, err = net.Listen("tcp", netip.AddrPortFrom(a, 8080).String())
				return err
			})
			t.Cleanup(func() { _ = l.Close() })
			var client net.Conn
			outside.Do(func() (err error) {
				client, err = net.DialTimeout("tcp", l.Addr().String(), patience)
				return err
			})
			t.Cleanup(func() { _ = client.Close() })
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			say(t, client, server)
			say(t, server, client)
			refused := netip.AddrPortFrom(a, 8081).String() // and by a reset where nobody listens
			outside.Do(func() error {
				if _, err := net.DialTimeout("tcp", refused, patience); !errors.Is(err, unix.ECONNREFUSED) {
					return fmt.Errorf("%s: %w", refused, err)
				}
				return nil
			})
		}
	})
}

// A segment far outside its connection's window, as a broken or hostile host on the
// way may send, ends no connection of a pod: it is the pod's to judge, and the node
// does not answer for it.
func TestASegmentOutsideTheWindowEndsNoConnection(t *testing.T) {
	for i := range outsideAddresses {
		t.Run(fmt.Sprint(outsideAddresses[i]), func(t *testing.T) {
			n, outside := cluster.NewNode(t, 1), netnstest.New(t)
			n.Wire(outside, "eth0")
			outside.Address("eth0", "192.0.2.100/24", "2001:db8:1::100/64")
			p := n.NewPod()
			n.Apply(v1alpha1.AgentConfigSpec{})
			var l net.Listener
			outside.Do(func() (err error) {
				l, err = net.Listen("tcp", netip.AddrPortFrom(outsideAddresses[i], 8080).String())
				return err
			})
			t.Cleanup(func() { _ = l.Close() })
			var pod net.Conn
			p.Do(func() (err error) {
				pod, err = net.DialTimeout("tcp", l.Addr().String(), patience)
				return err
			})
			t.Cleanup(func() { _ = pod.Close() })
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			var said uint32 // up to where the pod said something
			stop := netnstest.Watch(outside, "eth0", func(p netnstest.Packet) {
				if p.Protocol == unix.IPPROTO_TCP && nft.TCPFlag(p.Flags)&nft.PSH != 0 {
					said = p.Sequence + uint32(len(word))
				}
			})
			say(t, pod, server)
			stop()
			segment{from: server.LocalAddr().(*net.TCPAddr).AddrPort(), to: server.RemoteAddr().(*net.TCPAddr).AddrPort(),
				flags: nft.ACK, sequence: said ^ 1<<31, ack: said}.send(outside)
			for range 3 {
				say(t, server, pod)
				say(t, pod, server)
			}
		})
	}
}

const word = "word"

// say sends a word from one end to the other.
func say(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := io.WriteString(from, word); err != nil {
		t.Fatal(err)
	}
	if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, len(word))); err != nil {
		t.Fatal(err)
	}
}
