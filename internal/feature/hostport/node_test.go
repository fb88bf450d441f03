package hostport_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// within bounds every connection of these tests.
const within = 10 * time.Second

// echo answers every connection to the port of a host with its peer's address.
func echo(t *testing.T, h *netnstest.Host, port int) {
	t.Helper()
	var l net.Listener
	h.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr())
			c.Close()
		}
	}()
}

// ask connects from h and returns the address that the server saw.
func ask(h *netnstest.Host, server string) (netip.AddrPort, error) {
	var seen netip.AddrPort
	err := netns.Do(h.Path, func() error {
		c, err := net.DialTimeout("tcp", server, within)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		seen, err = netip.ParseAddrPort(string(b))
		return err
	})
	return netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port()), err
}

// stage is a node with a pod that has a host port, and one that has none.
func stage(t *testing.T) (n *cluster.Node, server, client *cluster.Pod) {
	t.Helper()
	n = cluster.NewNode(t, 1)
	n.Wire(netnstest.New(t), "eth0")
	server, client = n.NewPod(), n.NewPod()
	server.HostPorts = []world.HostPort{{Port: 8080, Protocol: unix.IPPROTO_TCP, PodPort: 80}}
	n.Apply(v1alpha1.AgentConfigSpec{})
	echo(t, server.Host, 80)
	return n, server, client
}

func TestTheNodeReachesItsOwnHostPorts(t *testing.T) {
	t.Parallel()
	n, _, _ := stage(t)
	for _, a := range []string{"127.0.0.1", "127.0.0.53", n.Addresses[0].String(), "[" + n.Addresses[1].String() + "]"} {
		seen, err := ask(n.Host, a+":8080")
		if err != nil || seen.Addr().IsLoopback() {
			t.Errorf("%s: seen as %s, %v", a, seen, err)
		}
	}
	echo(t, n.Host, 8080)
	if seen, err := ask(n.Host, "[::1]:8080"); err != nil || !seen.Addr().IsLoopback() {
		t.Errorf("[::1] is the node's own: seen as %s, %v", seen, err)
	}
}

func TestPodsReachHostPortsByTheNode(t *testing.T) {
	t.Parallel()
	n, server, client := stage(t)
	for i, a := range []string{n.Addresses[0].String(), "[" + n.Addresses[1].String() + "]"} {
		if seen, err := ask(client.Host, a+":8080"); err != nil || seen.Addr() != client.Addresses[i] {
			t.Errorf("its neighbour, by %s: seen as %s, %v", a, seen, err)
		}
		if seen, err := ask(server.Host, a+":8080"); err != nil || seen.Addr() == server.Addresses[i] {
			t.Errorf("itself, by %s: seen as %s, %v", a, seen, err)
		}
	}
}

// The wire of a pod with host ports takes loopback addresses, and the node's
// loopback stays the node's all the same (CVE-2020-8558).
func TestTheNodesLoopbackIsClosedToPods(t *testing.T) {
	t.Parallel()
	n, server, _ := stage(t)
	server.Run("ip", "route", "add", "127.0.0.2/32", "via", "169.254.1.1", "dev", "eth0", "onlink")
	server.Sysctl("net/ipv4/conf/all/route_localnet", "1")
	// Before its own loopback: "local" is the first rule otherwise.
	server.Run("ip", "rule", "add", "pref", "1", "to", "127.0.0.2", "lookup", "main")
	server.Run("ip", "rule", "add", "pref", "2", "lookup", "local")
	server.Run("ip", "rule", "del", "pref", "0")
	heard := listen(t, n.Host)
	node := netip.AddrPortFrom(n.Addresses[0], 9)
	send := func(from netip.Addr, to netip.AddrPort, text string) {
		t.Helper()
		server.Do(func() error {
			c, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			_, err = c.Write([]byte(text))
			return errors.Join(err, c.Close())
		})
	}
	send(netip.IPv4Unspecified(), netip.MustParseAddrPort("127.0.0.2:9"), "to the loopback")
	send(netip.MustParseAddr("127.0.0.1"), node, "from the loopback")
	send(netip.IPv4Unspecified(), node, "end") // what is sent first is heard first
	select {
	case text := <-heard:
		if text != "end" {
			t.Errorf("the node heard what was sent %s", text)
		}
	case <-time.After(within):
		t.Fatal("the node does not hear the pod at all")
	}
}

// listen tells what comes to UDP port 9 of a host.
func listen(t *testing.T, h *netnstest.Host) <-chan string {
	t.Helper()
	var l net.PacketConn
	h.Do(func() (err error) {
		l, err = net.ListenPacket("udp4", ":9")
		return err
	})
	t.Cleanup(func() { _ = l.Close() }) // nothing was written
	heard := make(chan string, 10)
	go func() {
		b := make([]byte, 100)
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
