package agent

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
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
	n.remove(t, "objects.yaml")
	if s, err := n.Sync(t.Context()); err != nil || s.World.Node != nil {
		t.Fatalf("the node is still known (%v)", err)
	}
	if n := flows(); n != 1 {
		t.Errorf("%d flows once the node is unknown, want 1", n)
	}
}

// The turn goes on while the connection table is looked through; one change is looked
// for once, by its port, and what changes back meanwhile is cut over too.
func TestATurnDoesNotWaitForTheConnectionTable(t *testing.T) {
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	asked, proceed := make(chan conntrack.Filter), make(chan struct{})
	forget := n.flows.Forget
	n.flows.Forget = func(table *conntrack.Table, f conntrack.Filter, stale func(*conntrack.Entry) bool) (int, error) {
		asked <- f
		<-proceed
		return forget(table, f, stale)
	}
	a, b := netnstest.New(t), netnstest.New(t)
	toA := documents(podObject("a", n.attach(t, "a", a).Addresses[0].String(), ""), service("a", "a", "5353", "UDP"), portRange("61000-61000"))
	toB := documents(podObject("b", n.attach(t, "b", b).Addresses[0].String(), ""), service("b", "b", "5353", "UDP"), portRange("61000-61000"))
	want := conntrack.Filter{Family: unix.AF_INET, Protocol: unix.IPPROTO_UDP, Original: conntrack.Tuple{Destination: netip.AddrPortFrom(netip.Addr{}, 61000)}}
	looked := func() {
		t.Helper()
		if f := <-asked; f != want {
			t.Errorf("looked for %+v, want %+v", f, want)
		}
	}
	n.write(t, "npl.yaml", toA)
	n.mustTurn(t)
	looked() // nobody goes on: the turns that follow do not wait for it
	n.write(t, "npl.yaml", toB)
	n.mustTurn(t)
	client := dialUDP(t, n.far, "192.168.100.1:61000")
	_, _ = client.Write([]byte("x")) // of a flow to b
	n.write(t, "npl.yaml", toA)
	n.mustTurn(t)
	n.mustTurn(t) // nothing changed: nothing is looked for
	proceed <- struct{}{}
	looked()
	proceed <- struct{}{}
	var l net.PacketConn
	a.Do(func() (err error) {
		l, err = net.ListenPacket("udp4", ":5353")
		return err
	})
	defer l.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, _ = client.Write([]byte("x"))
		must(t, l.SetDeadline(time.Now().Add(20*time.Millisecond)))
		if _, _, err := l.ReadFrom(make([]byte, 1)); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pod is not reached")
		}
	}
	select {
	case f := <-asked:
		t.Errorf("looked once more, for %+v", f)
	default:
	}
}

// A look that failed is taken again at the next turn.
func TestConnectionsAreLookedForAgain(t *testing.T) {
	n := newNode(t, nodes)
	looks := make(chan int, 10)
	failing := errors.New("no buffer")
	n.flows.Forget = func(*conntrack.Table, conntrack.Filter, func(*conntrack.Entry) bool) (int, error) {
		err := failing
		failing = nil
		looks <- 1
		return 0, err
	}
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), service("a", "a", "5353", "UDP")))
	n.mustTurn(t)
	<-looks
	for deadline := time.Now().Add(10 * time.Second); len(looks) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody looks again")
		}
		n.mustTurn(t)
	}
}

// An address that comes to be a Service's is its alone: a client that sends all the time
// no longer reaches the pod with the host port there, and does again afterwards.
func TestUDPFollowsAnAddressToItsService(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	n.far.Address("eth0", "192.168.100.7/24")
	n.host.Address("eth0", "192.168.100.50/32")
	heard := make(chan string, 100)
	pod := netnstest.New(t)
	q := cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path, HostPorts: []world.HostPort{{Port: 53, Protocol: unix.IPPROTO_UDP, PodPort: 5353}}}
	if code, body := n.post(t, "add", q); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	for who, at := range map[string]struct {
		host *netnstest.Host
		port string
	}{"pod": {pod, "5353"}, "service": {n.host, "53"}} {
		var l net.PacketConn
		at.host.Do(func() (err error) {
			l, err = net.ListenPacket("udp4", "0.0.0.0:"+at.port)
			return err
		})
		defer l.Close()
		go func() {
			b := make([]byte, 1)
			for {
				if _, _, err := l.ReadFrom(b); err != nil {
					return
				}
				heard <- who
			}
		}()
	}
	var client net.Conn
	n.far.Do(func() (err error) {
		client, err = net.Dial("udp4", "192.168.100.50:53")
		return err
	})
	defer client.Close()
	file := "vip.yaml"
	for _, step := range []struct{ objects, want string }{
		{"", "pod"},
		{"{apiVersion: v1, kind: Service, metadata: {name: lb, namespace: default}, spec: {type: LoadBalancer, clusterIP: 10.96.0.9, ports: [{port: 53, protocol: UDP}]}, status: {loadBalancer: {ingress: [{ip: 192.168.100.50}]}}}", "service"},
		{"{apiVersion: v1, kind: Service, metadata: {name: lb, namespace: default}, spec: {type: ClusterIP, clusterIP: 10.96.0.9, ports: [{port: 53, protocol: UDP}]}}", "pod"},
	} {
		if step.objects != "" {
			n.write(t, file, step.objects)
		}
		_, err := n.Sync(t.Context())
		must(t, err)
		for deadline, reached := time.After(10*time.Second), false; !reached; {
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			select {
			case who := <-heard:
				reached = who == step.want
			case <-time.After(20 * time.Millisecond):
			case <-deadline:
				t.Fatalf("the %s is not reached", step.want)
			}
		}
	}
}
