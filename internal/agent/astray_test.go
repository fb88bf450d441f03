package agent

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// Connections that began while somebody had flushed the rules are known to conntrack
// as ones that nobody translates. They work once the rules are back, and those that
// were translated before go on.
func TestConnectionsThatBeganWithoutRulesWorkOnceTheseAreBack(t *testing.T) {
	for how, back := range map[string]func(*testing.T, *node){
		"by a repair":    func(_ *testing.T, n *node) { n.loop.Drifted() },
		"by a new agent": func(t *testing.T, n *node) { n.restart(t) },
	} {
		t.Run(how, func(t *testing.T) { beganWithoutRules(t, back) })
	}
}

func beganWithoutRules(t *testing.T, back func(*testing.T, *node)) {
	const patience = 10 * time.Second
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	pod := netnstest.New(t)
	n.running(t, func() {
		q := cni.Request{ContainerID: "a", Interface: "eth0", Netns: pod.Path, HostPorts: []world.HostPort{{Port: 53, Protocol: unix.IPPROTO_UDP, PodPort: 5353}}}
		if code, body := n.post(t, "add", q); code != http.StatusOK {
			t.Fatalf("add: %d %s", code, body)
		}
	})
	outside, inside := hears(t, n.far, "192.168.100.7:7000"), hears(t, pod, ":5353")
	before := dialUDP(t, pod, "192.168.100.7:7000")
	say := func(c net.Conn) { _, _ = c.Write([]byte("x")) } // refused, while nobody is there
	say(before)
	was := within(t, patience, outside)
	if was.Addr() != netip.MustParseAddr("192.168.100.1") {
		t.Fatalf("a connection of the pod is seen as %s", was)
	}

	// Somebody's rules look at connections all the same.
	n.host.Run("nft", "flush ruleset; table inet somebodys { chain c { type filter hook prerouting priority 0; ct state new counter; }; }")
	udp, client := dialUDP(t, pod, "192.168.100.7:7000"), dialUDP(t, n.far, "192.168.100.1:53")
	say(udp)
	from := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	n.tracks(t, "udp", func(a netip.AddrPort) bool { return a == from })
	select {
	case seen := <-outside:
		t.Fatalf("a pod is seen outside as %s", seen)
	default:
	}
	say(client)
	tcp := n.connectsUnruled(t, pod)
	back(t, n)
	n.running(t, func() {
		for _, c := range []struct {
			what  string
			from  net.Conn
			heard <-chan netip.AddrPort
			want  func(netip.AddrPort) bool
		}{
			{"a flow of the pod", udp, outside, func(a netip.AddrPort) bool { return a.Addr() == was.Addr() }},
			{"a flow to the host port", client, inside, func(a netip.AddrPort) bool { return a.Addr() == netip.MustParseAddr("192.168.100.7") }},
			{"a flow that was translated before", before, outside, func(a netip.AddrPort) bool { return a == was }},
		} {
			eventually(t, c.what, func() bool {
				say(c.from)
				select {
				case a := <-c.heard:
					return c.want(a)
				case <-time.After(20 * time.Millisecond):
					return false
				}
			})
		}
		if err := <-tcp; err != nil {
			t.Errorf("the pod's connection: %v", err)
		}
	})
}

// connectsUnruled has a pod connect to outside, and returns once conntrack knows of it
// as of what nobody translates.
func (n *node) connectsUnruled(t *testing.T, pod *netnstest.Host) <-chan error {
	t.Helper()
	const patience = 10 * time.Second
	tcp := make(chan error, 1)
	l := listens(t, n.far, "192.168.100.7:7001")
	go func() {
		tcp <- netns.Do(pod.Path, func() error {
			c, err := net.DialTimeout("tcp4", l.Addr().String(), patience)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}()
	n.tracks(t, "tcp", func(a netip.AddrPort) bool { return podCIDRs[0].Contains(a.Addr()) })
	return tcp
}

// tracks waits until conntrack knows a connection that is from there.
func (n *node) tracks(t *testing.T, protocol string, from func(netip.AddrPort) bool) {
	t.Helper()
	eventually(t, "the connection is known to conntrack", func() bool {
		for p := range n.connections(t) {
			if p.protocol == protocol && from(p.port) {
				return true
			}
		}
		return false
	})
}

func hears(t *testing.T, h *netnstest.Host, address string) <-chan netip.AddrPort {
	t.Helper()
	var l net.PacketConn
	h.Do(func() (err error) {
		l, err = net.ListenPacket("udp4", address)
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	heard := make(chan netip.AddrPort, 1000)
	go func() {
		for b := make([]byte, 1); ; {
			_, from, err := l.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				heard <- from.(*net.UDPAddr).AddrPort()
			}
		}
	}()
	return heard
}

func listens(t *testing.T, h *netnstest.Host, address string) (l net.Listener) {
	t.Helper()
	h.Do(func() (err error) {
		l, err = net.Listen("tcp4", address)
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func within(t *testing.T, patience time.Duration, heard <-chan netip.AddrPort) netip.AddrPort {
	t.Helper()
	select {
	case a := <-heard:
		return a
	case <-time.After(patience):
		t.Fatal("nothing is heard")
		return netip.AddrPort{}
	}
}
