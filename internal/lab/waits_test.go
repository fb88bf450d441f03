package lab_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// fewReturning is a node with four ports for its pods.
const fewReturning = `
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: 1
hosts: [{name: web, addresses: [198.51.100.10/24]}]
agent: {nodeSNATRandomizePorts: %t, nodeSNATPortRange: 40000-40003, podTCPTimestamps: %s}
`

// A returning is two pods that each connect from one port of theirs, again and
// again, to a server that closes first. Four ports of the node are given to them, so
// that they come back while the server holds them.
type returning struct {
	testLab
	node, web string // paths of namespaces
	pods      []string
	count     int
}

const closesFirst = "198.51.100.10:9000"

func newReturning(t *testing.T, name, timestamps string, random bool) *returning {
	t.Helper()
	r := &returning{testLab: newLab(t, name)}
	r.mustWith(fmt.Sprintf(fewReturning, random, timestamps), "up", "-f", "/dev/stdin")
	r.mustWith(strings.ReplaceAll(twoPods, "n2", "n1"), "apply", "-f", "-")
	r.asked("pod/default/b", "tcp", "127.0.0.1:8080") // it runs
	s := r.status()
	r.node, r.web = s.Nodes[0].Netns, s.Hosts[0].Netns
	for _, p := range s.Pods {
		r.pods = append(r.pods, p.Netns)
	}
	var l net.Listener
	if err := netns.Do(r.web, func() (err error) { l, err = net.Listen("tcp", closesFirst); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return r
}

// connect has a pod connect, from the port that is its own.
func (r *returning) connect() {
	r.t.Helper()
	n := r.count % len(r.pods)
	r.count++
	time.Sleep(2 * time.Millisecond) // timestamps count milliseconds: what comes back within one is no later than what was
	again := func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		if failed != nil {
			return failed
		}
		return err
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{Port: 41000 + n}, Control: again}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	err := netns.Do(r.pods[n], func() error {
		c, err := d.DialContext(ctx, "tcp", closesFirst)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
		return err
	})
	if err != nil && ctx.Err() != nil {
		r.t.Fatal(err) // others: its own last connection is not quite over
	}
}

func (r *returning) doctor() string {
	return r.run("exec", "node/n1", "--", "fairlead", "doctor").stdout
}

// Ports that come back are seen wherever one looks, whether they are random or not.
func TestPortsThatComeBackAreTold(t *testing.T) {
	for _, random := range []bool{false, true} {
		t.Run(fmt.Sprintf("random %t", random), func(t *testing.T) {
			r := newReturning(t, fmt.Sprintf("back%t", random), "random", random)
			eventually(t, "the doctor says so", func() bool {
				for range 50 {
					r.connect()
				}
				return strings.Contains(r.doctor(), "WARN  snat-reuse")
			})
			for _, want := range []string{"of new connections to tcp " + closesFirst + " (", "waited: source ports are reused within TIME_WAIT", "set podTCPTimestamps: monotonic"} {
				if said := r.doctor(); !strings.Contains(said, want) {
					t.Errorf("the doctor does not say %q:\n%s", want, said)
				}
			}
			eventually(t, "there is an event", func() bool { return strings.Contains(r.must("get", "events"), "SNATPortsComeBack") })
			if wide := r.must("exec", "node/n1", "--", "fairlead", "get", "snat", "-o", "wide"); !strings.Contains(wide, "PORT HELD") || !strings.Contains(wide, "tcp "+closesFirst) {
				t.Errorf("get snat -o wide says\n%s", wide)
			}
			if n := metric(t, r.node, `fairlead_snat_connections_waited_total{reason="held"}`); n < 3 {
				t.Errorf("%v are counted", n)
			}
		})
	}
}

// Where pods read one clock none waits, and nothing is said.
func TestPortsThatComeBackToOneClockAreTaken(t *testing.T) {
	r := newReturning(t, "clock", "monotonic", true)
	eventually(t, "connections are followed", func() bool {
		for range 50 {
			r.connect()
		}
		return metric(t, r.node, "fairlead_snat_connections_followed_total") >= 200
	})
	if n := metric(t, r.node, `fairlead_snat_connections_waited_total{reason="held"}`); n != 0 {
		t.Errorf("%v waited", n)
	}
	if said := r.doctor(); strings.Contains(said, "WARN  snat-reuse") || !strings.Contains(said, ", 0 waited") {
		t.Errorf("the doctor says\n%s", said)
	}
}
