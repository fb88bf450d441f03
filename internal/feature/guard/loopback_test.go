package guard_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// besiege sends to the loopback address of the node from a pod without a pause, and
// returns what ends that.
func besiege(t *testing.T, p *cluster.Pod) (end func()) {
	t.Helper()
	p.Sysctl("net/ipv4/conf/all/route_localnet", "1")
	p.Run("ip", "route", "add", "127.0.0.2/32", "via", "169.254.1.1", "dev", "eth0", "onlink")
	// Before its own loopback: "local" is the first rule otherwise.
	p.Run("ip", "rule", "add", "pref", "1", "to", "127.0.0.2", "lookup", "main")
	p.Run("ip", "rule", "add", "pref", "2", "lookup", "local")
	p.Run("ip", "rule", "del", "pref", "0")
	var c net.Conn
	p.Do(func() (err error) {
		c, err = net.Dial("udp4", "127.0.0.2:4242")
		return err
	})
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !over.Load() {
			_, _ = c.Write([]byte("to the loopback")) // may be refused
		}
	})
	return func() {
		over.Store(true)
		wg.Wait()
		_ = c.Close() // all was written
	}
}

// No packet of a pod comes to the node's loopback while what opens that, and what
// keeps it closed, come and go, to the end.
func TestTheNodesLoopbackStaysClosed(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		const times = 20
		n := k.node(t, 1)
		n.Wire(netnstest.New(t), "eth0")
		heard := listen(t, n.Host)
		for range times {
			n.Apply(v1alpha1.AgentConfigSpec{})
			p := n.NewPod()
			p.HostPorts = []world.HostPort{{Port: 8000 + uint16(len(n.Pods)), Protocol: unix.IPPROTO_TCP, PodPort: 80}}
			n.Apply(v1alpha1.AgentConfigSpec{})
			end := besiege(t, p)
			for _, off := range []string{"hostport", "guard"} {
				n.Apply(v1alpha1.AgentConfigSpec{Features: map[string]bool{off: false}})
				n.Apply(v1alpha1.AgentConfigSpec{})
			}
			n.Uninstall()
			end()
		}
		select {
		case text := <-heard:
			t.Errorf("the node heard %q, and %d more", text, len(heard))
		default:
		}
	})
}
