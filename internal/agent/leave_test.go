package agent

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What a pod sends has the source that the default route says, with blocks and without,
// and follows the route: to another interface, back, and to another address where that
// one goes. A client that sends all the time from one port is no exception.
func TestPodsGetTheRoutesSource(t *testing.T) {
	for name, config := range map[string]string{
		"shared": randomize,
		"blocks": "{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {nodeSNATPortBlock: 512}}",
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nodes, config)
			netnstest.Wire(n.host, "eth1", n.far, "eth1")
			n.host.Address("eth0", "192.168.100.9/24", "2001:db8::1/64", "2001:db8::9/64")
			n.host.Address("eth1", "172.16.5.1/24", "2001:db8:5::1/64")
			n.far.Address("eth0", "192.168.100.7/24", "2001:db8::7/64")
			n.far.Address("eth1", "172.16.5.7/24", "2001:db8:5::7/64")
			n.far.Address("lo", "198.51.100.10/32", "2001:db8:9::10/128")
			n.start(t)
			pod := netnstest.New(t)
			q := cni.Request{Namespace: "default", Pod: "a", ContainerID: "c1", Interface: "eth0", Netns: pod.Path}
			if code, body := n.post(t, "add", q); code != http.StatusOK {
				t.Fatalf("add: %d %s", code, body)
			}
			four := udpClient(t, pod, n.far, "198.51.100.10:9")
			for _, step := range [][2]string{
				{"route replace default via 192.168.100.7 dev eth0 src 192.168.100.9", "192.168.100.9"},
				{"route replace default via 172.16.5.7 dev eth1", "172.16.5.1"},
				{"route replace default via 192.168.100.7 dev eth0 src 192.168.100.9", "192.168.100.9"},
				{"route replace default via 192.168.100.7 dev eth0", "192.168.100.9"}, // as long as it lasts
				{"address del 192.168.100.9/24 dev eth0", "192.168.100.1"},
			} {
				four.follows(n, step)
				if step[1] != "192.168.100.9" || strings.Contains(step[0], "src") {
					four.asTheNode(n, step[1])
				}
			}
			six := udpClient(t, pod, n.far, "[2001:db8:9::10]:9")
			for _, step := range [][2]string{
				{"-6 route replace default via 2001:db8::7 dev eth0 src 2001:db8::9", "2001:db8::9"},
				{"-6 route replace default via 2001:db8:5::7 dev eth1 metric 10", "2001:db8:5::1"},
				{"-6 route del default via 2001:db8:5::7 dev eth1", "2001:db8::9"},
				{"address del 2001:db8::9/64 dev eth0", "2001:db8::1"},
			} {
				six.follows(n, step)
				six.asTheNode(n, step[1])
			}
		})
	}
}

// With its address on the loopback and two uplinks, a node keeps connections when one
// uplink fails: outside they are the same.
func TestAnUplinkFailsAndConnectionsStay(t *testing.T) {
	n := newNode(t, nodes, randomize)
	netnstest.Wire(n.host, "eth1", n.far, "eth1")
	n.host.Address("lo", "203.0.113.1/32")
	n.host.Address("eth1", "172.16.5.1/24")
	n.far.Address("eth0", "192.168.100.7/24")
	n.far.Address("eth1", "172.16.5.7/24")
	n.far.Address("lo", "198.51.100.10/32")
	n.host.Run("ip", "route", "replace", "default", "src", "203.0.113.1", "nexthop", "via", "192.168.100.7", "nexthop", "via", "172.16.5.7")
	n.start(t)
	pod := netnstest.New(t)
	q := cni.Request{Namespace: "default", Pod: "a", ContainerID: "c1", Interface: "eth0", Netns: pod.Path}
	if code, body := n.post(t, "add", q); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	c := udpClient(t, pod, n.far, "198.51.100.10:9")
	_, err := c.Write([]byte("x"))
	must(t, err)
	first := <-c.seen
	if first.Addr().String() != "203.0.113.1" {
		t.Fatalf("seen as %s", first)
	}
	for _, fails := range []string{"172.16.5.7", "192.168.100.7"} {
		stays := map[string]string{"172.16.5.7": "192.168.100.7", "192.168.100.7": "172.16.5.7"}[fails]
		c.follows(n, [2]string{"route replace default via " + stays + " src 203.0.113.1", first.String()})
		eventually(t, "whoever looks for connections to forget has looked", func() bool {
			all := make([]byte, 1<<20)
			return !bytes.Contains(all[:runtime.Stack(all, true)], []byte("snat.(*leaver).work"))
		})
		c.follows(n, [2]string{"route show", first.String()})
	}
}

// A steadyClient sends from one socket all the time, and hears as whom it is seen.
type steadyClient struct {
	net.Conn
	t         *testing.T
	seen, own chan netip.AddrPort // of the client, and of the node's own
}

func udpClient(t *testing.T, from, to *netnstest.Host, at string) *steadyClient {
	t.Helper()
	c := &steadyClient{t: t, seen: make(chan netip.AddrPort, 1000), own: make(chan netip.AddrPort, 1000)}
	var l net.PacketConn
	to.Do(func() (err error) {
		l, err = net.ListenPacket("udp", at)
		return err
	})
	t.Cleanup(func() { l.Close() })
	from.Do(func() (err error) {
		c.Conn, err = net.Dial("udp", at)
		return err
	})
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 1)
		for {
			_, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			to := c.seen
			if b[0] == 'n' {
				to = c.own
			}
			as := from.(*net.UDPAddr).AddrPort()
			to <- netip.AddrPortFrom(as.Addr().Unmap(), as.Port())
		}
	}()
	return c
}

// follows takes a step, of ip(8), and waits until the client is seen as it should be.
func (c *steadyClient) follows(n *node, step [2]string) {
	c.t.Helper()
	n.host.Run("sh", "-c", "ip "+step[0])
	if _, err := n.Sync(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	for len(c.seen) > 0 {
		<-c.seen
	}
	var last netip.AddrPort
	for deadline := time.After(10 * time.Second); last.String() != step[1] && last.Addr().String() != step[1]; {
		_, _ = c.Write([]byte("x")) // refused while there is no way
		select {
		case last = <-c.seen:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			c.t.Fatalf("ip %s: seen as %s, want %s", step[0], last, step[1])
		}
	}
}

// asTheNode sends from the node itself, which is seen likewise.
func (c *steadyClient) asTheNode(n *node, want string) {
	c.t.Helper()
	n.host.Do(func() error {
		own, err := net.Dial("udp", c.RemoteAddr().String())
		if err != nil {
			return err
		}
		_, err = own.Write([]byte("n"))
		return errors.Join(err, own.Close())
	})
	select {
	case got := <-c.own:
		if got.Addr().String() != want {
			c.t.Errorf("the node itself is seen as %s, its pods as %s", got, want)
		}
	case <-time.After(10 * time.Second):
		c.t.Error("the node itself is not seen")
	}
}
