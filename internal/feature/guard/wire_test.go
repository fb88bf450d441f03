package guard_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
)

// within bounds every wait of these tests.
const within = 10 * time.Second

// port is the UDP port that everybody here listens on.
const port = 4242

// last is what is sent last: what was sent before it was heard before it.
const last = "last"

// listen tells what comes to the UDP port of a host, on any of its addresses.
func listen(t *testing.T, h *netnstest.Host) <-chan string {
	t.Helper()
	var l net.PacketConn
	h.Do(func() (err error) {
		l, err = net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { _ = l.Close() }) // nothing was written
	heard := make(chan string, 100)
	go func() {
		defer close(heard)
		b := make([]byte, 1<<16)
		for {
			size, _, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			heard <- string(b[:size])
		}
	}()
	return heard
}

// heardUntilLast is what was heard up to the last word.
func heardUntilLast(t *testing.T, heard <-chan string) (out []string) {
	t.Helper()
	for {
		select {
		case text := <-heard:
			if text == last {
				return out
			}
			out = append(out, text)
		case <-time.After(within):
			t.Fatalf("the last word was not heard, but %q", out)
		}
	}
}

// say sends text as any process could.
func say(h *netnstest.Host, to netip.AddrPort, text string) {
	h.Do(func() error {
		c, err := net.Dial("udp", to.String())
		if err != nil {
			return err
		}
		_, err = c.Write([]byte(text))
		return errors.Join(err, c.Close())
	})
}

// forge sends text with any source, as a process with CAP_NET_RAW can.
func forge(h *netnstest.Host, from, to netip.Addr, text string) {
	h.Do(func() error { return sendRaw(to, packet(from, to, text)) })
}

// packet is a UDP packet to the port, from its IP header on.
func packet(from, to netip.Addr, text string) []byte {
	body := binary.BigEndian.AppendUint16(nil, 4000)
	body = binary.BigEndian.AppendUint16(body, port)
	body = binary.BigEndian.AppendUint16(body, uint16(8+len(text)))
	body = append(body, 0, 0)
	body = append(body, text...)
	pseudo := slices.Concat(from.AsSlice(), to.AsSlice(), []byte{0, unix.IPPROTO_UDP}, body[4:6], body)
	binary.BigEndian.PutUint16(body[6:], checksum(pseudo))
	return ip(from, to, unix.IPPROTO_UDP, body)
}

func ip(from, to netip.Addr, protocol byte, body []byte) []byte {
	if from.Is6() {
		b := make([]byte, 40)
		b[0], b[6], b[7] = 6<<4, protocol, 255
		binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
		copy(b[8:], from.AsSlice())
		copy(b[24:], to.AsSlice())
		return append(b, body...)
	}
	b := make([]byte, 20)
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return append(b, body...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// sendRaw sends a whole IP packet by the host's routes.
func sendRaw(to netip.Addr, b []byte) error {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.As16()})
	if to.Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if to.Is6() {
		if err := unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_HDRINCL, 1); err != nil {
			return err
		}
	}
	return unix.Sendto(fd, b, 0, address)
}

// A site is two nodes, with pods a and b on the first and c on the second, and a
// stranger on their network.
type site struct {
	n1, n2   *cluster.Node
	a, b, c  *cluster.Pod
	stranger *netnstest.Host
}

// A kind is what kernel nodes have.
type kind struct{ tcx bool }

// onEachKernel runs what a guard does by programs, and what by rules.
func onEachKernel(t *testing.T, f func(t *testing.T, k kind)) {
	t.Helper()
	t.Parallel()
	for _, k := range []kind{{true}, {false}} {
		t.Run(fmt.Sprintf("tcx %v", k.tcx), func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

// node is one with a kernel of the kind.
func (k kind) node(t *testing.T, number int) *cluster.Node {
	t.Helper()
	n := cluster.NewNode(t, number)
	n.WithoutTCX = !k.tcx
	return n
}

func (k kind) newSite(t *testing.T, spec v1alpha1.AgentConfigSpec) site {
	t.Helper()
	network := netnstest.New(t)
	s := site{n1: k.node(t, 1), n2: k.node(t, 2), stranger: netnstest.New(t)}
	for i, n := range []*cluster.Node{s.n1, s.n2} {
		n.Sysctl("net/ipv4/conf/all/rp_filter", "0", "net/ipv4/conf/default/rp_filter", "0")
		n.Wire(network, fmt.Sprintf("n%d", i+1))
	}
	netnstest.Wire(s.stranger, "eth0", network, "stranger")
	s.stranger.Address("eth0", "192.0.2.66/24", "2001:db8:1::66/64")
	network.Run("ip", "link", "add", "bridge", "up", "type", "bridge")
	for _, link := range []string{"n1", "n2", "stranger"} {
		network.Run("ip", "link", "set", link, "master", "bridge")
	}
	s.a, s.b, s.c = s.n1.NewPod(), s.n1.NewPod(), s.n2.NewPod()
	s.apply(spec)
	for i := range s.c.Addresses {
		meet(t, s.c.Host, s.b.Host, s.b.Addresses[i])
		meet(t, s.b.Host, s.c.Host, s.c.Addresses[i])
	}
	meet(t, s.stranger, s.n1.Host, s.n1.Addresses[0])
	return s
}

// meet returns once what one host sends is heard by the other: links come up in
// their own time.
func meet(t *testing.T, from, to *netnstest.Host, address netip.Addr) {
	t.Helper()
	var l net.PacketConn
	to.Do(func() (err error) {
		l, err = net.ListenPacket("udp", ":0")
		return err
	})
	defer l.Close()
	port := l.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for began := time.Now(); time.Since(began) < within; {
		say(from, netip.AddrPortFrom(address, port), "ready")
		if err := l.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.ReadFrom(make([]byte, 10)); err == nil {
			return
		}
	}
	t.Fatalf("nothing comes to %s", address)
}

func (s site) apply(spec v1alpha1.AgentConfigSpec) {
	s.n1.Apply(spec, s.n2)
	s.n2.Apply(spec, s.n1)
}

// A pod speaks with its own addresses, and with nobody else's.
func TestAPodSpeaksForItselfOnly(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		s := k.newSite(t, v1alpha1.AgentConfigSpec{})
		heard := listen(t, s.b.Host)
		for i := range s.a.Addresses {
			to := s.b.Addresses[i]
			for _, as := range map[bool][]string{
				true:  {"10.244.1.9", "10.244.2.2", "192.0.2.1", "192.0.2.2", "198.51.100.10", "127.0.0.1"},
				false: {"fd00:10:244:1::9", "fd00:10:244:2::2", "2001:db8:1::1", "2001:db8:1::2", "2001:db8:9::10", "fe80::bad"},
			}[to.Is4()] {
				forge(s.a.Host, netip.MustParseAddr(as), to, "as "+as)
			}
			forge(s.a.Host, s.a.Addresses[i], to, last)
			if got := heardUntilLast(t, heard); len(got) > 0 {
				t.Errorf("%s heard %q", to, got)
			}
		}
	})
}

// What a pod says to the node and to other nodes is no less its own.
func TestAPodSpeaksForItselfToNodes(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		s := k.newSite(t, v1alpha1.AgentConfigSpec{})
		for _, n := range []*cluster.Node{s.n1, s.n2} {
			heard := listen(t, n.Host)
			for i, to := range n.Addresses {
				forge(s.a.Host, s.b.Addresses[i], to, "as its neighbour")
				forge(s.a.Host, s.c.Addresses[i], to, "as a pod of another node")
				forge(s.a.Host, s.a.Addresses[i], to, last)
				if got := heardUntilLast(t, heard); len(got) > 0 {
					t.Errorf("%s heard %q", to, got)
				}
			}
		}
	})
}

// Nothing is let in while rules take the place of programs, and programs that of
// rules, or while a wire is made anew.
func TestThereIsNoMomentWithoutAGuard(t *testing.T) {
	t.Parallel()
	const times = 20
	s := kind{}.newSite(t, v1alpha1.AgentConfigSpec{})
	heard := listen(t, s.n1.Host)
	to := s.n1.Addresses[0]
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		s.a.Do(func() error {
			for !over.Load() {
				_ = sendRaw(to, packet(s.b.Addresses[0], to, "forged")) // there may be no way meanwhile
			}
			return nil
		})
	})
	for i := range times {
		s.n1.WithoutTCX = i%2 == 1
		s.n1.Apply(v1alpha1.AgentConfigSpec{}, s.n2)
		s.n1.Run("ip", "link", "del", feature.Wire(s.a.Attachment))
		s.n1.Repair()
	}
	over.Store(true)
	wg.Wait()
	forge(s.a.Host, s.a.Addresses[0], to, last)
	if got := heardUntilLast(t, heard); len(got) > 0 {
		t.Errorf("the node heard %d forged packets", len(got))
	}
}

// An agent that cannot see programs, since it lacks the privilege, makes rules where
// gates of an agent before it stand. Both let in the same.
func TestRulesBehindGatesLetInTheSame(t *testing.T) {
	t.Parallel()
	s := kind{}.newSite(t, v1alpha1.AgentConfigSpec{}) // by rules
	for _, n := range []*cluster.Node{s.n1, s.n2} {
		n.Do(func() error {
			add, _ := gate.Diff(nil, []gate.Gate{{Link: datapath.VXLANLink, Priority: datapath.TunnelPriority, Set: true, Sources: []netip.Prefix{
				netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")}}}, func(string) bool { return true })
			for _, c := range add {
				if err := c.Apply(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	heard := listen(t, s.c.Host)
	for i := range s.a.Addresses {
		forge(s.a.Host, s.a.Addresses[i], s.c.Addresses[i], "its own")
		forge(s.a.Host, s.a.Addresses[i], s.c.Addresses[i], last)
		if got := heardUntilLast(t, heard); len(got) != 1 {
			t.Errorf("heard %q", got)
		}
	}
}
