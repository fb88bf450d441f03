package agent

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A client that sends all the time from one port reaches whichever pod has the
// host port, and none of them only as long as there is none.
func TestUDPFollowsAHostPortFromPodToPod(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	followsUDP(t, n)
}

func TestUDPFollowsAHostPortWhateverElseFails(t *testing.T) {
	n := newNode(t, nodes)
	bad := netnstest.New(t)
	netnstest.Wire(bad, "eth0", netnstest.New(t), "eth0") // its eth0 is taken
	n.attach(t, "bad", bad)
	n.start(t)
	followsUDP(t, n)
}

func followsUDP(t *testing.T, n *node) {
	t.Helper()
	n.far.Address("eth0", "192.168.100.7/24")
	heard := make(chan string, 100)
	var client net.Conn
	n.far.Do(func() (err error) {
		client, err = net.Dial("udp4", "192.168.100.1:53")
		return err
	})
	defer client.Close()
	reaches := func(want string) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			if _, err := client.Write([]byte("x")); err != nil {
				continue // "refused", while no pod is there
			}
			select {
			case pod := <-heard:
				if pod == want {
					return
				}
			case <-time.After(20 * time.Millisecond):
			case <-deadline:
				t.Fatalf("%s is not reached", want)
			}
		}
	}
	if _, err := client.Write([]byte("x")); err != nil { // to nobody
		t.Fatal(err)
	}
	for i := range 3 {
		id, pod := fmt.Sprintf("pod%d", i), netnstest.New(t)
		q := cni.Request{ContainerID: id, Interface: "eth0", Netns: pod.Path, HostPorts: []world.HostPort{{Port: 53, Protocol: unix.IPPROTO_UDP, PodPort: 5353}}}
		if code, body := n.post(t, "add", q); code != http.StatusOK {
			t.Fatalf("add: %d %s", code, body)
		}
		var l net.PacketConn
		pod.Do(func() (err error) {
			l, err = net.ListenPacket("udp4", ":5353")
			return err
		})
		go func() {
			b := make([]byte, 1)
			for {
				if _, _, err := l.ReadFrom(b); err != nil {
					return
				}
				heard <- id
			}
		}()
		reaches(id)
		if code, body := n.post(t, "del", q); code != http.StatusOK {
			t.Fatalf("del: %d %s", code, body)
		}
		l.Close()
	}
}

// What is in the kernel stays while the node is unknown, connections as well as
// rules.
func TestUDPFlowsStayWhileTheNodeIsUnknown(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	n.far.Address("eth0", "192.168.100.7/24")
	pod := netnstest.New(t)
	q := cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path, HostPorts: []world.HostPort{{Port: 53, Protocol: unix.IPPROTO_UDP, PodPort: 5353}}}
	if code, body := n.post(t, "add", q); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	n.far.Do(func() error {
		c, err := net.Dial("udp4", "192.168.100.1:53")
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	})
	flows := func() (flows int) {
		n.host.Do(func() error {
			table, err := conntrack.Open()
			if err != nil {
				return err
			}
			err = table.Dump(conntrack.Filter{Protocol: unix.IPPROTO_UDP}, func(e *conntrack.Entry) bool {
				if e.Original.Destination.Port() == 53 {
					flows++
				}
				return true
			})
			return errors.Join(err, table.Close())
		})
		return flows
	}
	if n := flows(); n != 1 {
		t.Fatalf("%d flows, want 1", n)
	}
	n.write(t, "objects.yaml", "")
	if s, err := n.Sync(t.Context()); err != nil || s.World.Node != nil {
		t.Fatalf("the node is still known (%v)", err)
	}
	if n := flows(); n != 1 {
		t.Errorf("%d flows once the node is unknown, want 1", n)
	}
}
