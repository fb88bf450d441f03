package pressure_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/pressure"
)

// serveAndClose accepts connections and closes them first, so that the server has
// each in TIME_WAIT for a minute.
func serveAndClose(t *testing.T, h *netnstest.Host, at netip.AddrPort) {
	t.Helper()
	var l net.Listener
	h.Do(func() (err error) { l, err = net.Listen("tcp", at.String()); return err })
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
}

// A returning is connections of two pods in turn, all from one port of the node's:
// it comes back while the server holds it.
type returning struct {
	node   *cluster.Node
	server netip.AddrPort
	table  *conntrack.Table
	count  int
}

// mostByChance is how many a busy machine may hold without offsets; what the
// doctor says nothing about.
const mostByChance = 2

// tick is more than timestamps count in: what comes back within a millisecond is no
// later than what was.
const tick = 2 * time.Millisecond

// connect opens a connection, lets the server close it, and has the node forget it.
func (r *returning) connect(t *testing.T) {
	t.Helper()
	r.count++
	time.Sleep(tick)
	r.node.Pods[r.count%len(r.node.Pods)].Do(func() error {
		c, err := net.DialTimeout("tcp", r.server.String(), 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.Copy(io.Discard, c)
		return err
	})
	eventually(t, "the connection is over and forgotten", func() bool {
		open := 0
		r.node.Do(func() error {
			_, err := r.table.Forget(conntrack.Filter{Protocol: unix.IPPROTO_TCP}, func(e *conntrack.Entry) bool {
				over := e.TCPState == conntrack.TimeWait || e.TCPState == conntrack.Closed
				if !over {
					open++
				}
				return over
			})
			return err
		})
		return open == 0
	})
}

// timestamps sets those of the pods: 1 as the kernel has them, 2 without offsets.
func (r *returning) timestamps(value int) {
	for _, p := range r.node.Pods {
		p.Sysctl("net/ipv4/tcp_timestamps", fmt.Sprint(value))
	}
}

// Ports that come back while the server holds them are refused, however they were
// chosen, and that is seen. Where timestamps have no offsets they are not.
func TestPortsThatComeBackAreSeen(t *testing.T) {
	for _, to := range outsideAddresses {
		for _, random := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s random %t", to, random), func(t *testing.T) {
				n, outside := newCluster(t, 2)
				ports := "40000-40000"
				w := n.Apply(v1alpha1.AgentConfigSpec{NodeSNATPortRange: &ports, NodeSNATRandomizePorts: &random})
				r := &returning{node: n, server: netip.MustParseAddrPort(to)}
				serveAndClose(t, outside, r.server)
				n.Do(func() (err error) { r.table, err = conntrack.Open(); return err })
				t.Cleanup(func() {
					if err := r.table.Close(); err != nil {
						t.Error(err)
					}
				})

				r.timestamps(2)
				watch, _ := start(t, n.Host, pressure.Config{Ports: snat.InForce(w).Range, Randomized: random})
				began := time.Now()
				eventually(t, "fifty connections are followed", func() bool {
					r.connect(t)
					return watch.Status().Waits.Total.New >= 50
				})
				if s := watch.Status().Waits; s.Total.Held > mostByChance || s.Missing != "" {
					t.Errorf("without offsets: %+v", s)
				}
				r.timestamps(1)
				eventually(t, "connections are refused", func() bool {
					r.connect(t)
					return watch.Status().Waits.Total.Held >= 10
				})
				s := watch.Status().Waits
				if s.Total.Unanswered != 0 || len(s.Worst) != 1 || s.Worst[0].Tally != s.LastMinute || s.Worst[0].To != r.server {
					t.Errorf("%+v", s)
				}
				if s.LastMinute != s.Total && time.Since(began) < time.Minute {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// A destination that does not answer is another matter.
func TestSilentDestinationsAreToldApart(t *testing.T) {
	for _, to := range outsideAddresses {
		t.Run(to, func(t *testing.T) {
			n, outside := newCluster(t, 1)
			w := n.Apply(v1alpha1.AgentConfigSpec{})
			outside.Run("nft", "add table inet silent; add chain inet silent c { type filter hook input priority 0; }; add rule inet silent c tcp flags syn drop")
			watch, _ := start(t, n.Host, pressure.Config{Ports: snat.InForce(w).Range})
			eventually(t, "it is seen", func() bool {
				n.Pods[0].Do(func() error {
					_, err := net.DialTimeout("tcp", to, 10*time.Millisecond)
					if err == nil {
						return errors.New("it answers")
					}
					return nil
				})
				return watch.Status().Waits.Total.Unanswered >= 3
			})
			if s := watch.Status().Waits; s.Total.Held != 0 || s.Worst[0].To.String() != to {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A port that nobody listens on answers at once.
func TestRefusedConnectionsDoNotWait(t *testing.T) {
	n, _ := newCluster(t, 1)
	w := n.Apply(v1alpha1.AgentConfigSpec{})
	watch, _ := start(t, n.Host, pressure.Config{Ports: snat.InForce(w).Range})
	for _, to := range outsideAddresses {
		eventually(t, "they are followed", func() bool {
			n.Pods[0].Do(func() error {
				if _, err := net.DialTimeout("tcp", to, time.Second); !errors.Is(err, unix.ECONNREFUSED) {
					return fmt.Errorf("the answer is %w", err)
				}
				return nil
			})
			return watch.Status().Waits.Total.New >= 10
		})
	}
	if s := watch.Status().Waits; s.Total.Waited() != 0 {
		t.Errorf("%+v", s)
	}
}

// A kernel that makes no events is no good news, and may be told to.
func TestAKernelThatIsSilentIsTold(t *testing.T) {
	n, _ := newCluster(t, 0)
	n.Sysctl("net/netfilter/nf_conntrack_events", "0")
	watch, _ := start(t, n.Host, pressure.Config{})
	eventually(t, "that is said", func() bool {
		return strings.Contains(watch.Status().Waits.Missing, "nf_conntrack_events is 0")
	})
	n.Sysctl("net/netfilter/nf_conntrack_events", "2")
	eventually(t, "it is heard", func() bool { return watch.Status().Waits.Missing == "" })
}
