package gate_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netnstest"
)

// within bounds every wait of these tests.
const within = 10 * time.Second

// A door is a gate at the node's end of a pod's wire, and what comes through it.
type door struct {
	t         testing.TB
	pod, node *netnstest.Host
	wire      string      // the node's end
	behind    map[int]int // socket of each EtherType that the node's network layer takes
	out       int         // from the pod
	index     int         // of the pod's end
	ring      bool        // frames are sent from memory that the pod can write to
	refused   gate.Counts // before what was sent last
	last      byte
}

// newDoor makes a pod, its node and a gate between them; its Link is the wire.
func newDoor(t testing.TB, g gate.Gate) *door {
	t.Helper()
	d := &door{t: t, pod: netnstest.New(t), node: netnstest.New(t), wire: g.Link, behind: map[int]int{}}
	for _, h := range []*netnstest.Host{d.pod, d.node} {
		h.Sysctl("net/ipv6/conf/default/disable_ipv6", "1") // nobody speaks by himself
	}
	netnstest.Wire(d.pod, "eth0", d.node, d.wire)
	d.apply(nil, g)
	for _, typ := range []int{unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_ARP, unix.ETH_P_MPLS_UC, unix.ETH_P_802_2} {
		d.node.Do(func() (err error) { d.behind[typ], err = packetSocket(d.wire, typ); return err })
	}
	d.pod.Do(func() (err error) {
		if d.out, err = packetSocket("eth0", 0); err != nil {
			return err
		}
		i, err := net.InterfaceByName("eth0")
		d.index = i.Index
		return err
	})
	d.meet()
	return d
}

// meet returns once something comes through: links come up in their own time.
func (d *door) meet() {
	d.t.Helper()
	began := time.Now()
	for came := false; !came; {
		if time.Since(began) > within {
			d.t.Fatalf("nothing comes")
		}
		d.pod.Do(func() error { return d.send(probe(0)) })
		came = d.waits(unix.ETH_P_ARP, 50*time.Millisecond)
	}
	d.drain()
}

// waits reports whether something waits to be received, after at most so long.
func (d *door) waits(typ int, atMost time.Duration) bool {
	d.t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(d.behind[typ]), Events: unix.POLLIN}}, int(atMost.Milliseconds()))
		if err == nil {
			return n > 0
		}
		if !errors.Is(err, unix.EINTR) {
			d.t.Fatal(err)
		}
	}
}

// drain forgets what came.
func (d *door) drain() {
	d.t.Helper()
	for typ := range d.behind {
		for d.receive(typ, unix.MSG_DONTWAIT) != nil {
			continue
		}
	}
}

// packetSocket takes a link's packets of an EtherType where the network layer does:
// behind the gate.
func packetSocket(link string, typ int) (int, error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return -1, err
	}
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.NsecToTimeval(within.Nanoseconds())
	return s, errors.Join(unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.Bind(s, &unix.SockaddrLinklayer{Protocol: bigEndian(typ), Ifindex: i.Index}))
}

func bigEndian(v int) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, uint16(v)))
}

// apply makes the gates of the node from those that it is known to have.
func (d *door) apply(have []gate.Gate, want ...gate.Gate) {
	d.t.Helper()
	d.node.Do(func() error { return change(have, want) })
}

func change(have, want []gate.Gate) error {
	add, del := gate.Diff(have, want, func(string) bool { return true })
	var err error
	for _, c := range append(add, del...) {
		err = errors.Join(err, c.Apply())
	}
	return err
}

// counts is what the gate refused since it was asked last.
func (d *door) counts() (out gate.Counts) {
	d.t.Helper()
	var now gate.Counts
	d.node.Do(func() error {
		counts, err := gate.Refused(d.wire, false)
		now = counts
		return err
	})
	for i := range now {
		out[i] = now[i] - d.refused[i]
	}
	d.refused = now
	return out
}

// An outcome is what becomes of a frame: who takes it, or why it is refused.
type outcome struct {
	taken   int // EtherType of the protocol that took it; 0: none did
	refused gate.Counts
}

func forged() outcome        { return outcome{refused: gate.Counts{gate.Forged: 1}} }
func passes(typ int) outcome { return outcome{taken: typ} }

// try sends one frame and tells what became of it. An ARP packet behind it, which
// passes each gate, tells when the frame is through: packets of one CPU keep their
// order.
func (d *door) try(frame []byte) outcome {
	d.t.Helper()
	d.last++
	end := probe(d.last)
	d.pod.Do(func() error {
		if err := pin(); err != nil {
			return err
		}
		if !d.ring {
			return errors.Join(d.send(frame), d.send(end))
		}
		r, err := newRing("eth0")
		if err != nil {
			return err
		}
		return errors.Join(r.send(frame), d.send(end), r.close())
	})
	var out outcome
	for seen := false; !seen; {
		b := d.receive(unix.ETH_P_ARP, 0)
		if seen = bytes.Equal(b, end); !seen {
			out.taken = unix.ETH_P_ARP
		}
	}
	for typ := range d.behind {
		if typ != unix.ETH_P_ARP && d.receive(typ, unix.MSG_DONTWAIT) != nil {
			out.taken = typ
		}
	}
	out.refused = d.counts()
	return out
}

// pin keeps the thread on one CPU.
func pin() error {
	var one unix.CPUSet
	one.Set(runtime.NumCPU() - 1)
	return unix.SchedSetaffinity(0, &one)
}

// receive is the next frame that the protocol takes: one for another host it does not.
func (d *door) receive(typ, flags int) []byte {
	d.t.Helper()
	b := make([]byte, 1<<17)
	for {
		n, from, err := unix.Recvfrom(d.behind[typ], b, flags)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) && flags != 0 {
			return nil
		}
		if err != nil {
			d.t.Fatalf("nothing comes of EtherType %x: %v", typ, err)
		}
		switch from.(*unix.SockaddrLinklayer).Pkttype {
		case unix.PACKET_OUTGOING, unix.PACKET_OTHERHOST:
		default:
			return b[:n]
		}
	}
}

func (d *door) send(frame []byte) error {
	return unix.Sendto(d.out, frame, 0, &unix.SockaddrLinklayer{Ifindex: d.index})
}

func indexOf(link string) int {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return 0
	}
	return i.Index
}

func single(a string) netip.Prefix {
	return netip.PrefixFrom(netip.MustParseAddr(a), netip.MustParseAddr(a).BitLen())
}

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
