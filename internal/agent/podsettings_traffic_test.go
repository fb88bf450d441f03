package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// manyConnections are established when settings change under them.
const manyConnections = 1000

// A connection that is established keeps its clock, and goes on, whatever is set
// meanwhile.
func TestConnectionsOutliveSettingsOfTCP(t *testing.T) {
	n := newNode(t, nodes, tcpConfig("{podTCPTimestamps: keep}"))
	n.far.Address("eth0", "192.168.100.50/24")
	n.start(t)
	_, pod := attach(t, n, "a")
	all := connect(t, n, pod)
	clocks := watchClocks(n)
	for _, step := range []struct{ spec, timestamps string }{
		{"{podTCPTimestamps: keep}", "1"},
		{"{podTCPTimestamps: monotonic, podTCPReuse: true}", "2"},
		{"{podTCPTimestamps: random}", "1"},
		{"{podTCPTimestamps: monotonic}", "2"},
		{"{podTCPTimestamps: keep}", "1"},
	} {
		n.write(t, "objects.yaml", nodes+"\n---\n"+tcpConfig(step.spec))
		if _, err := n.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		has(t, pod, world.TCPTimestamps, step.timestamps)
		for i, c := range all {
			if err := talk(c); err != nil {
				t.Fatalf("with %s connection %d: %v", step.spec, i, err)
			}
		}
	}
	jumps, seen := clocks()
	if jumps > 0 || seen != manyConnections {
		t.Errorf("clocks of %d connections jumped, of %d seen", jumps, seen)
	}
}

// connect opens connections from a pod to the far host, which echoes.
func connect(t *testing.T, n *node, pod *netnstest.Host) []net.Conn {
	t.Helper()
	var l net.Listener
	n.far.Do(func() (err error) {
		l, err = net.Listen("tcp", "192.168.100.50:7")
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	var all []net.Conn
	pod.Do(func() error {
		for range manyConnections {
			c, err := net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
			all = append(all, c)
		}
		return nil
	})
	return all
}

func talk(c net.Conn) error {
	b := []byte{1}
	_, err := c.Write(b)
	err = errors.Join(err, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return nil
}

// watchClocks looks at the timestamps of what the pod sends, by source port, until the
// returned function tells how many connections have a clock that jumped, of how many.
func watchClocks(n *node) func() (jumps, seen int) {
	const jump = uint32(time.Minute / time.Millisecond)
	last, jumped := map[uint16]uint32{}, map[uint16]bool{}
	stop := netnstest.Watch(n.far, "eth0", func(p netnstest.Packet) {
		if p.Protocol != unix.IPPROTO_TCP || p.Port != 7 || p.Clock == 0 {
			return
		}
		before, known := last[p.Source.Port()]
		if known && p.Clock-before > jump {
			jumped[p.Source.Port()] = true
		}
		last[p.Source.Port()] = p.Clock
	})
	return func() (int, int) {
		stop()
		return len(jumped), len(last)
	}
}
