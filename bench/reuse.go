package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/bench/internal/traffic"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
)

// Pods that connect to one server over and over from the same port. The server
// closes first, and remembers each connection for timeWait.
const (
	reusePods    = 20
	reuseCalls   = 200 // of each pod, one after the other
	reusePort    = 40000
	reuseServer  = "192.0.2.100"
	timeWait     = 60 * time.Second
	slowConnect  = 900 * time.Millisecond // the first retransmission of a SYN takes 1 s
	waitTimeout  = "net/netfilter/nf_conntrack_tcp_timeout_time_wait"
	reuseAtMost  = 1.0 / 3
	shortTimeout = "1"
)

// A mode is a way of choosing source ports.
type mode struct {
	name   string
	ports  string
	random bool
}

// modes are compared with the first one.
var modes = []mode{
	{"kernel", "kernel", false},
	{"kernel, randomised", "kernel", true},
	{"range", "auto", false},
	{"range, randomised", "auto", true},
}

// A reuseResult is what came out of one mode.
type reuseResult struct {
	Name        string   `json:"name"`
	Timeout     string   `json:"conntrackTimeWait"` // in seconds
	Connections int      `json:"connections"`       // of each repetition
	Accepted    estimate `json:"reusedShare"`       // of accepted connections
	Asked       estimate `json:"reusedShareOfSYNs"`
	Retransmits estimate `json:"synRetransmits"`
	Slow        estimate `json:"slowConnects"`
	Failed      estimate `json:"failedConnects"`
	ToPlain     estimate `json:"reusedToPlain"` // Accepted, repetition by repetition
	Goal        string   `json:"goal,omitempty"`
}

// measureReuse repeats every mode with both timeouts, in turn.
func (b *bench) measureReuse() []reuseResult {
	if !b.chosen("fast reuse") {
		return nil
	}
	bed := newReuseBed(b)
	timeouts := []string{bed.timeout, shortTimeout}
	counts := map[string][][]reuseCount{}
	for _, timeout := range timeouts {
		counts[timeout] = make([][]reuseCount, len(modes))
	}
	for repeat := range b.repeats {
		b.progress("fast reuse: repetition %d of %d", repeat+1, b.repeats)
		for _, timeout := range timeouts {
			for turn := range modes {
				i := (repeat + turn) % len(modes)
				counts[timeout][i] = append(counts[timeout][i], bed.run(modes[i], timeout))
			}
		}
	}
	var out []reuseResult
	for _, timeout := range timeouts {
		plain := column(counts[timeout][0], reuseCount.acceptedShare)
		for i, m := range modes {
			c := counts[timeout][i]
			r := reuseResult{Name: m.name, Timeout: timeout, Connections: reusePods * reuseCalls,
				Accepted: estimateOf(column(c, reuseCount.acceptedShare)), Asked: estimateOf(column(c, reuseCount.askedShare)),
				Retransmits: estimateOf(column(c, func(c reuseCount) float64 { return float64(c.retransmits) })),
				Slow:        estimateOf(column(c, func(c reuseCount) float64 { return float64(c.slow) })),
				Failed:      estimateOf(column(c, func(c reuseCount) float64 { return float64(c.failed) })),
				ToPlain:     estimateOf(ratios(column(c, reuseCount.acceptedShare), plain))}
			if m == modes[1] {
				r.Goal = verdict(r.ToPlain.Median <= reuseAtMost)
			}
			out = append(out, r)
		}
	}
	return out
}

func column(counts []reuseCount, value func(reuseCount) float64) (out []float64) {
	for _, c := range counts {
		out = append(out, value(c))
	}
	return out
}

// A reuseCount is what was seen of one repetition.
type reuseCount struct {
	asked, askedAgain       int // SYNs of connections, and those from an address and port used before
	accepted, acceptedAgain int // the same of accepted connections
	retransmits             int
	slow, failed            int
}

func (c reuseCount) askedShare() float64    { return float64(c.askedAgain) / float64(c.asked) }
func (c reuseCount) acceptedShare() float64 { return float64(c.acceptedAgain) / float64(c.accepted) }

// A reuseBed is a node with pods, and a server outside.
type reuseBed struct {
	b       *bench
	node    *cluster.Node
	server  *netnstest.Host
	timeout string // of conntrack, as the kernel has it
}

func newReuseBed(b *bench) *reuseBed {
	bed := &reuseBed{b: b, node: cluster.NewNode(b, 1), server: netnstest.New(b)}
	bed.node.Wire(bed.server, "eth0")
	bed.server.Address("eth0", reuseServer+"/24")
	bed.server.Sysctl("net/ipv4/tcp_max_tw_buckets", "1000000")
	for range reusePods {
		bed.node.NewPod()
	}
	bed.node.Apply(v1alpha1.AgentConfigSpec{})
	bed.node.Settle()
	bed.node.Do(func() (err error) { bed.timeout, err = sysctl.Read(waitTimeout); return err })
	return bed
}

// run makes all connections once, to a port of the server that none before went
// to. Connections of before are forgotten: where ports are not random, the
// kernel gives a pod's port the translation that it has towards any destination.
func (r *reuseBed) run(m mode, timeout string) reuseCount {
	r.node.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	r.node.Sysctl(waitTimeout, timeout)
	r.node.Apply(v1alpha1.AgentConfigSpec{NodeSNATPortRange: &m.ports, NodeSNATRandomizePorts: &m.random})
	l, at, err := traffic.Path{To: r.server.Path, Address: netip.MustParseAddr(reuseServer)}.Listen(0)
	if err != nil {
		r.b.Fatalf("%v", err)
	}
	w := watcher{port: at.Port(), asked: map[netip.AddrPort]syn{}, accepted: map[netip.AddrPort]time.Time{}}
	stop := netnstest.Watch(r.server, "eth0", w.packet)
	const servers = 4
	done := make(chan error, servers)
	for range servers {
		go func() { done <- traffic.CloseFirst(l, w.connection) }()
	}
	before := r.retransmits()
	calls := r.callAll(at)
	w.count.retransmits = r.retransmits() - before
	err = unix.Shutdown(l, unix.SHUT_RDWR)
	for range servers {
		err = errors.Join(err, <-done)
	}
	if err = errors.Join(err, unix.Close(l)); err != nil {
		r.b.Fatalf("%s: %v", m.name, err)
	}
	stop()
	if w.count.accepted == 0 {
		r.b.Fatalf("%s: the server saw no connection", m.name)
	}
	w.count.slow, w.count.failed = calls.slow, calls.failed
	return w.count
}

// callAll lets all pods connect side by side.
func (r *reuseBed) callAll(at netip.AddrPort) (all reuseCount) {
	counts := make(chan reuseCount)
	for _, p := range r.node.Pods {
		go func() {
			var c reuseCount
			err := netns.Do(p.Path, func() error {
				for range reuseCalls {
					took, err := traffic.Pull(at, reusePort)
					if err != nil {
						c.failed++
					} else if took > slowConnect {
						c.slow++
					}
				}
				return nil
			})
			if err != nil {
				c.failed = reuseCalls
			}
			counts <- c
		}()
	}
	for range r.node.Pods {
		c := <-counts
		all.slow, all.failed = all.slow+c.slow, all.failed+c.failed
	}
	return all
}

// retransmits sums TcpExtTCPSynRetrans over the pods.
func (r *reuseBed) retransmits() (sum int) {
	for _, p := range r.node.Pods {
		p.Do(func() error {
			n, err := counter("/proc/thread-self/net/netstat", "TcpExt", "TCPSynRetrans")
			sum += n
			return err
		})
	}
	return sum
}

// counter reads one value of a file that has a line of names and a line of
// values for each group.
func counter(file, group, name string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != group+":" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, n := range names {
			if n == name && i < len(fields) {
				return strconv.Atoi(fields[i])
			}
		}
	}
	return 0, fmt.Errorf("%s has no %s %s", file, group, name)
}

// A watcher sees a server's connections.
type watcher struct {
	port     uint16
	mu       sync.Mutex
	asked    map[netip.AddrPort]syn
	accepted map[netip.AddrPort]time.Time
	count    reuseCount
}

type syn struct {
	sequence uint32
	at       time.Time
}

// packet is told of every packet. A SYN sent again is not another connection.
func (w *watcher) packet(p netnstest.Packet) {
	if p.Port != w.port || nft.TCPFlag(p.Flags)&(nft.SYN|nft.ACK) != nft.SYN {
		return
	}
	now := time.Now()
	last, before := w.asked[p.Source]
	w.asked[p.Source] = syn{p.Sequence, now}
	if before && last.sequence == p.Sequence {
		return
	}
	w.count.asked++
	if before && now.Sub(last.at) < timeWait {
		w.count.askedAgain++
	}
}

// connection is told of every connection accepted.
func (w *watcher) connection(from netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	last, before := w.accepted[from]
	w.accepted[from] = now
	w.count.accepted++
	if before && now.Sub(last) < timeWait {
		w.count.acceptedAgain++
	}
}
