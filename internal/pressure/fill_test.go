package pressure_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/pressure"
	"fairlead.dev/fairlead/internal/world"
)

// A filling is pods that fill the ports towards one destination.
type filling struct {
	ports  string
	server int // index of outsideAddresses
	pods   int // so many that none has too many sockets
	rate   int // of each, connections a second
}

// attempts is how often a busy machine may be late.
const attempts = 3

// Pods fill the ports towards one destination as fast as they can. They are told
// of before connections are lost for it, and what is then lost is counted exactly.
func TestScarcePortsAreToldOfBeforeConnectionsAreLost(t *testing.T) {
	for _, f := range []filling{
		{"40000-40999", 0, 1, 1000}, {"40000-40999", 1, 1, 1000}, // faster, and they are gone within a few turns of a busy scheduler
		{"32768-60999", 0, 2, fast}, {"32768-65535", 0, 2, fast},
	} {
		t.Run(f.ports+" to "+outsideAddresses[f.server], func(t *testing.T) {
			for i := range attempts {
				inTime := false
				t.Run(fmt.Sprint(i), func(t *testing.T) { inTime = f.run(t) })
				if inTime || t.Failed() {
					return
				}
			}
			t.Errorf("told too late %d times", attempts)
		})
	}
}

// raceLost is how many connections may be lost before that to two CPUs that draw
// the same port at the same instant.
const raceLost = 2

func (f filling) run(t *testing.T) (inTime bool) {
	n, outside := newCluster(t, f.pods)
	random := true
	w := n.Apply(v1alpha1.AgentConfigSpec{NodeSNATPortRange: &f.ports, NodeSNATRandomizePorts: &random})
	ports, to := snat.InForce(w).Range, netip.MustParseAddrPort(outsideAddresses[f.server])
	listen(t, outside, to)
	watch, told := start(t, n.Host, pressure.Config{Object: "Node n1", Ports: ports, Randomized: true})
	before := watch.Look(t.Context()).Conntrack
	time.Sleep(time.Second) // a quiet node is looked at seldom

	var hosts []*netnstest.Host
	for _, p := range n.Pods {
		hosts = append(hosts, p.Host)
	}
	o := open(t, hosts, flood{to, ports.Len() * 106 / 100 / len(hosts), f.rate})
	after := watch.Examine(t.Context())
	t.Logf("%d opened in %s, %d timed out; %d listed of %d for %.0f ms CPU, counted for %.1f ms", o.Opened, o.Took.Round(time.Millisecond), o.TimedOut,
		after.Listed.Entries, after.Listed.Of, 1000*after.CPU.Listing, 1000*after.CPU.Counting)

	scarce := told.scarce()
	lost := scarce.failed - before.InsertFailed
	t.Logf("told with %d lost, %s before a client failed: %s", lost, o.FirstFailure.Sub(scarce.at).Round(time.Millisecond), scarce.Message)
	for _, want := range []string{"tcp " + to.String(), fmt.Sprintf(" of %d ", ports.Len()), n.Addresses[f.server].String()} {
		if !strings.Contains(scarce.Message, want) {
			t.Errorf("%q does not say %q", scarce.Message, want)
		}
	}
	sent, arrived := 0, syns(outside)
	for _, h := range hosts {
		sent += syns(h)
	}
	failed, dropped := int(after.Conntrack.InsertFailed-before.InsertFailed), int(after.Conntrack.Drop-before.Drop)
	wires := droppedByWires(append(hosts, n.Host, outside))
	t.Logf("%d SYNs sent, %d arrived; insert_failed %d, drop %d; wires dropped %d packets", sent, arrived, failed, dropped, wires)
	if lost := sent - arrived; abs(failed-lost) > wires || abs(dropped-lost) > wires {
		t.Errorf("%d SYNs lost, insert_failed %d, drop %d: want the same", lost, failed, dropped)
	}
	// A machine that is too busy sends SYNs again that were not lost.
	if again := arrived - o.Opened; abs(o.LostSYNs-again-failed) > wires || o.TimedOut == 0 || o.LostSYNs < o.TimedOut {
		t.Errorf("insert_failed %d, and the clients miss %d SYNs, %d of which arrived twice", failed, o.LostSYNs, again)
	}
	if f := after.Fullest[0]; abs(f.Used-o.Opened) > wires || f.To != to || f.Size != ports.Len() {
		t.Errorf("the fullest is %+v, want %d of %d towards %s", f, o.Opened, ports.Len(), to)
	}
	eventually(t, "losses are told", func() bool {
		return told.says("ConnectionsLost", "most likely tcp "+to.String())
	})
	return lost <= raceLost && scarce.at.Before(o.FirstFailure)
}

// fast is as fast as a client can.
const fast = 1e6

var outsideAddresses = []string{"192.0.2.100:443", "[2001:db8:1::100]:443"}

// newCluster is a node with pods, and a host outside beside it. All of them but
// the node count SYNs.
func newCluster(t *testing.T, pods int) (*cluster.Node, *netnstest.Host) {
	n, outside := cluster.NewNode(t, 1), netnstest.New(t)
	n.Wire(outside, "eth0")
	outside.Address("eth0", "192.0.2.100/24", "2001:db8:1::100/64")
	outside.Sysctl("net/core/somaxconn", "65535", "net/ipv4/tcp_max_syn_backlog", "65535")
	countSYNs(outside, nft.Prerouting)
	for range pods {
		countSYNs(n.NewPod().Host, nft.Output)
	}
	return n, outside
}

const syn = "syn"

func countSYNs(h *netnstest.Host, hook nft.Hook) {
	h.Do(func() error {
		return nft.Apply(nft.Diff(nil, []*nft.Table{{Name: syn, Chains: []*nft.Chain{{
			Name: syn, Type: nft.Filter, Hook: hook, Rules: []nft.Rule{{nft.L4Proto(unix.IPPROTO_TCP), nft.TCPFlags(nft.SYN), nft.Counter()}},
		}}}}))
	})
}

// syns returns how many SYNs were counted. Answers to them are SYNs too, but
// leave by another hook.
func syns(h *netnstest.Host) (n int) {
	h.Do(func() error {
		tables, err := nft.Read(syn)
		for _, table := range tables {
			n += int(table.Packets(syn))
		}
		return err
	})
	return n
}

// droppedByWires is how many packets veth pairs dropped since a busy machine
// could not take them: they are lost, and not to translation.
func droppedByWires(hosts []*netnstest.Host) (n int) {
	for _, h := range hosts {
		h.Do(func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				n += int(l.Attrs().Statistics.TxDropped)
			}
			return err
		})
	}
	return n
}

func abs(n int) int { return max(n, -n) }

// listen lets connections to the address come about, without a process that
// accepts them.
func listen(t *testing.T, h *netnstest.Host, at netip.AddrPort) {
	h.Do(func() error {
		address := sockaddr(at)
		fd, err := socket(address, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Bind(fd, address); err != nil {
			return err
		}
		return unix.Listen(fd, 65535)
	})
}

// A saying is an event, its time, and what was lost by then.
type saying struct {
	world.Event
	at     time.Time
	failed uint64
}

type sayings struct {
	mu   sync.Mutex
	list []saying
}

func (s *sayings) record(e world.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now()
	stats, err := conntrack.Read() // by the thread that watches, inside the node
	if err != nil {
		panic(err)
	}
	s.list = append(s.list, saying{e, at, stats.InsertFailed})
}

// scarce is the first event that says that ports are.
func (s *sayings) scarce() saying {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.list {
		if e.Reason == "SNATPortsScarce" {
			return e
		}
	}
	return saying{}
}

// says reports whether an event of the reason says so.
func (s *sayings) says(reason, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.list, func(e saying) bool { return e.Reason == reason && strings.Contains(e.Message, text) })
}

// start watches a host until the test ends.
func start(t *testing.T, h *netnstest.Host, c pressure.Config) (*pressure.Watch, *sayings) {
	told := &sayings{}
	w := pressure.New(told.record, slog.New(slog.DiscardHandler))
	w.Set(c)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- netns.Do(h.Path, func() error { w.Run(ctx); return nil }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the watch runs", func() bool { return w.Status().Conntrack.Max > 0 })
	return w, told
}

// eventually asks 4,000 times, for 20 seconds at least: what is bounded is how often, since a
// machine may be busy, and a process may be stopped for a while.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 4000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not when asked 4,000 times: %s", what)
}
