package agent

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// Who sends to a UDP port of the node all the time from one port reaches the pod
// as soon as it is mapped, and nobody once it is not: no connection that conntrack
// remembers leads past the map.
func TestUDPFollowsAMapping(t *testing.T) {
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	pod := netnstest.New(t)
	address := n.attach(t, "a", pod).Addresses[0].String()
	n.mustTurn(t)
	var l net.PacketConn
	pod.Do(func() (err error) {
		l, err = net.ListenPacket("udp4", ":5353")
		return err
	})
	defer l.Close()
	client := dialUDP(t, n.far, "192.168.100.1:61000")
	eventuallyRefused(t, client)
	mapped := documents(podObject("a", address, ""), service("a", "a", "5353", "UDP"), portRange("61000-61000"))
	for range 2 {
		n.write(t, "npl.yaml", mapped)
		n.mustTurn(t)
		for deadline := time.Now().Add(10 * time.Second); ; {
			_, _ = client.Write([]byte("x")) // may tell of an earlier refusal
			must(t, l.SetDeadline(time.Now().Add(20*time.Millisecond)))
			if _, _, err := l.ReadFrom(make([]byte, 1)); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the pod is not reached")
			}
		}
		n.write(t, "npl.yaml", documents(podObject("a", address, ""), portRange("61000-61000")))
		n.mustTurn(t)
		eventuallyRefused(t, client)
		must(t, l.SetDeadline(time.Now().Add(20*time.Millisecond)))
		for {
			if _, _, err := l.ReadFrom(make([]byte, 1)); err != nil {
				break // all that came before is read
			}
		}
	}
}

// The socket that holds a UDP port swallows nothing: what finds no mapping is
// refused, on the node's loopback and where somebody took the element away.
func TestWhatFindsNoMappingIsRefused(t *testing.T) {
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), service("a", "a", "5353", "UDP"), service("b", "a", "80", "TCP")))
	n.mustTurn(t)
	eventuallyRefused(t, dialUDP(t, n.host, "127.0.0.1:61000"))
	n.host.Run("nft", "flush", "map", "inet", "fairlead-nodeportlocal", "ports4")
	eventuallyRefused(t, dialUDP(t, n.far, "192.168.100.1:61000"))
	n.far.Do(func() error {
		if _, err := net.DialTimeout("tcp4", "192.168.100.1:61000", 5*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("TCP: %v", err)
		}
		return nil
	})
	n.loop.setDrift(true)
	n.mustTurn(t)
	if got, want := n.mapped(t), "17 . 61000 : 10.244.1.9 . 5353, 6 . 61000 : 10.244.1.9 . 80"; got != want {
		t.Errorf("mapped are %q, want %q", got, want)
	}
}

func dialUDP(t *testing.T, from *netnstest.Host, to string) net.Conn {
	t.Helper()
	var c net.Conn
	from.Do(func() (err error) {
		c, err = net.Dial("udp4", to)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func eventuallyRefused(t *testing.T, c net.Conn) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err := c.Write([]byte("x")); errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
	t.Fatalf("what is sent to %s is not refused", c.RemoteAddr())
}
