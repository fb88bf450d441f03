package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/bench/internal/traffic"
	"fairlead.dev/fairlead/internal/netnstest"
)

// Connections that are closed as soon as they are made, by loops in pods and in
// the node itself, to one server outside.
const (
	closingName     = "closing connections: "
	closingLoops    = 10 // between all pods
	closingToNoNAT  = 0.95
	closingToOthers = 1.5 // of Flannel's, with two pods
	closingServers  = 4   // threads that accept

	// What a loop rests after each connection: a pod that closes first has each
	// local port once a minute, and must not run out of them.
	pauseAfter  = 4 * time.Millisecond
	pauseBehind = 500 * time.Microsecond // where the server closes first

	// How long the loops go before the first round, so that ports that the server
	// has in TIME_WAIT come back in the first one as in the last.
	closingFill = 2 * time.Second
)

// A scene is what loads do, and the beds that it is measured on. The first bed is
// what the others are compared with.
type scene struct {
	pods    int
	closing traffic.Closing
	family  int
	node    bool // as many loops in the node itself
	hurry   bool // pods run out of ports
	title   string
	beds    []bedKind
	usual   bool // measured also where nobody asked for it by name
}

var closings = []string{traffic.ServerFirst: "server first", traffic.ClientFirst: "client first", traffic.Both: "both at once"}

func (s scene) String() string {
	if s.title != "" {
		return closingName + s.title
	}
	pods := "pods"
	if s.pods == 1 {
		pods = "pod"
	}
	return fmt.Sprintf("%s%d %s, %s, %s", closingName, s.pods, pods, closings[s.closing], [...]string{"IPv4", "IPv6"}[s.family])
}

// scenes are all scenes: the cross of what can differ, and what is asked apart.
func (b *bench) scenes() (out []scene) {
	for closing := range closings {
		for family := range 2 {
			for _, pods := range []int{1, 2, 20, 200} {
				s := scene{pods: pods, closing: traffic.Closing(closing), family: family, beds: fewBeds}
				if s.closing == traffic.ServerFirst && family == 0 && pods > 1 {
					s.beds = serverBeds
				}
				if b.whole && pods < 200 {
					s.beds = allBeds
				}
				s.usual = s.closing == traffic.ServerFirst && (pods == 2 || pods == 20 && family == 0)
				out = append(out, s)
			}
		}
	}
	return append(out,
		scene{pods: 2, closing: traffic.Both, beds: allBeds, title: "2 pods, every way to choose ports"},
		scene{pods: 2, closing: traffic.ClientFirst, hurry: true, beds: reusingBeds, title: "pods that run out of ports"},
		scene{pods: 2, closing: traffic.Both, node: true, beds: nodeBeds, title: "pods and the node's own sockets"},
		scene{pods: 2, closing: traffic.Both, hurry: true, beds: sourceBeds, title: "ports at the source"})
}

// A closingResult is what came out of one bed of a scene.
type closingResult struct {
	Scene string `json:"scene"`
	bedKind
	Loads   []loadResult `json:"loads"` // of the pods, and of the node itself
	PAWS    int          `json:"pawsRefusals"`
	Dropped int          `json:"droppedByNAT"` // packets that conntrack of the node dropped
	each    time.Duration
	// contested is whether there is something to gain on Flannel's: with two pods,
	// where the server closes first and so has ports in TIME_WAIT.
	contested bool
}

// A loadResult is what came out of the loops of the pods, or of those of the node.
type loadResult struct {
	Rates       []float64 `json:"rates"` // round by round
	ToFirst     estimate  `json:"toFirst"`
	ToFlannel   *estimate `json:"toFlannel,omitempty"`
	Connections int       `json:"connections"`
	Retransmits int       `json:"synRetransmits"`
	Slow        int       `json:"slowConnects"`
	Failed      int       `json:"failedConnects"`
}

// measureClosing measures every chosen scene for itself.
func (b *bench) measureClosing() (out []closingResult) {
	named := strings.HasPrefix(b.only, closingName)
	for _, s := range b.scenes() {
		if b.chosen(s.String()) && (s.usual || named || b.whole) {
			out = append(out, b.apart().measureScene(s)...)
		}
	}
	return out
}

// apart is a run whose hosts go before the whole one ends.
func (b *bench) apart() *bench {
	c := *b
	c.cleanups = nil
	return &c
}

// measureScene goes in rounds as contests do. What was opened on a bed stays as
// it is between its turns, in the connection tables and in TIME_WAIT.
func (b *bench) measureScene(s scene) (out []closingResult) {
	defer b.clean()
	b.progress("%s: making %d nodes", s, len(s.beds))
	var beds []*closingBed
	for _, k := range s.beds {
		bed := newClosingBed(b, k, s.pods)
		bed.load(s)
		beds = append(beds, bed)
	}
	for _, bed := range beds {
		bed.run(closingFill)
		bed.begin()
	}
	out = make([]closingResult, len(beds))
	for round := range b.rounds {
		b.progress("%s: round %d of %d", s, round+1, b.rounds)
		for turn := range beds {
			i := (round + turn) % len(beds)
			for l, rate := range beds[i].run(b.load) {
				if round == 0 {
					out[i].Loads = append(out[i].Loads, loadResult{})
				}
				out[i].Loads[l].Rates = append(out[i].Loads[l].Rates, rate)
			}
		}
	}
	for i, bed := range beds {
		out[i].Scene, out[i].bedKind, out[i].each = s.String(), bed.kind, b.load
		out[i].contested = s.pods == 2 && s.closing == traffic.ServerFirst
		bed.end(&out[i])
	}
	compare(out)
	return out
}

// compare makes ratios to the first bed, and to Flannel's.
func compare(results []closingResult) {
	for i := range results {
		for l := range results[i].Loads {
			r := &results[i].Loads[l]
			r.ToFirst = estimateOf(ratios(r.Rates, results[0].Loads[l].Rates))
			for _, other := range results {
				if other.Ports == portsOfFlannel && results[i].Ports != portsOfFlannel {
					e := estimateOf(ratios(r.Rates, other.Loads[l].Rates))
					r.ToFlannel = &e
				}
			}
		}
	}
}

// A closingLoad is loops in some hosts, and the hosts themselves.
type closingLoad struct {
	*traffic.Closer
	hosts       []*netnstest.Host
	retransmits int // before the first round,
	slow        int // as these
	failed      int
	made        float64
}

// load lets the server listen and says what the loops are.
func (c *closingBed) load(s scene) {
	l, at, err := traffic.Path{To: c.server.Path, Address: closingAddresses[s.family]}.Listen(0)
	if err != nil {
		c.b.Fatalf("%s: %v", c.kind, err)
	}
	done := make(chan error, closingServers)
	for range closingServers {
		go func() { done <- s.closing.Serve(l) }()
	}
	c.b.Cleanup(func() {
		err := unix.Shutdown(l, unix.SHUT_RDWR)
		for range closingServers {
			err = errors.Join(err, <-done)
		}
		if err = errors.Join(err, unix.Close(l)); err != nil {
			c.b.progress("%s: %v", c.kind, err)
		}
	})
	c.add(s, at, c.pods...)
	if s.node {
		c.add(s, at, c.node)
	}
}

func (c *closingBed) add(s scene, at netip.AddrPort, hosts ...*netnstest.Host) {
	l := &closingLoad{Closer: &traffic.Closer{Loops: closingLoops, To: at, Closing: s.closing, Pause: pauseAfter}, hosts: hosts}
	if s.hurry || s.closing == traffic.ServerFirst {
		l.Pause = pauseBehind
	}
	for _, h := range hosts {
		l.From = append(l.From, h.Path)
		h.Do(func() error { // what happens only the first time is not measured
			fd, err := traffic.Connect(at, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		})
	}
	c.loads = append(c.loads, l)
}

// begin reads what was counted before the first round.
func (c *closingBed) begin() {
	for _, l := range c.loads {
		if err := l.Wait(); err != nil {
			c.b.Fatalf("%s: %v", c.kind, err)
		}
		l.made = 0
		l.slow, l.failed = l.Slow()
		l.retransmits = tcpCounter("TCPSynRetrans", l.hosts...)
	}
	c.paws, c.dropped = tcpCounter("PAWSTimewait", c.server), dropped(c.node)
}

// run lets all loads go at once for d, and returns the rate of each.
func (c *closingBed) run(d time.Duration) []float64 {
	rates := make([]float64, len(c.loads))
	failed := make(chan error)
	for i, l := range c.loads {
		go func() {
			var err error
			rates[i], err = l.Run(d)
			failed <- err
		}()
	}
	for range c.loads {
		if err := <-failed; err != nil {
			c.b.Fatalf("%s: %v", c.kind, err)
		}
	}
	for i, l := range c.loads {
		l.made += rates[i] * d.Seconds()
	}
	return rates
}

// end waits for what is still on its way, and fills in what was counted.
func (c *closingBed) end(r *closingResult) {
	for i, l := range c.loads {
		if err := l.Wait(); err != nil {
			c.b.Fatalf("%s: %v", c.kind, err)
		}
		slow, failed := l.Slow()
		r.Loads[i].Slow, r.Loads[i].Failed = slow-l.slow, failed-l.failed
		r.Loads[i].Connections = int(l.made)
		r.Loads[i].Retransmits = tcpCounter("TCPSynRetrans", l.hosts...) - l.retransmits
	}
	r.PAWS, r.Dropped = tcpCounter("PAWSTimewait", c.server)-c.paws, dropped(c.node)-c.dropped
}

// dropped is what conntrack has no place for in a host: packets for which there
// is no port, or whose translation was there before.
func dropped(h *netnstest.Host) (n int) {
	h.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/stat/nf_conntrack")
		if err == nil {
			n, err = conntrackCounters(string(b), "insert_failed", "drop")
		}
		return err
	})
	return n
}

// conntrackCounters sums counters of all CPUs: a line of names, and one of
// hexadecimal values for each.
func conntrackCounters(text string, names ...string) (sum int, err error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	head := strings.Fields(lines[0])
	for _, name := range names {
		i := slices.Index(head, name)
		if i < 0 {
			return 0, fmt.Errorf("conntrack counts no %s", name)
		}
		for _, line := range lines[1:] {
			fields := strings.Fields(line)
			if i >= len(fields) {
				return 0, fmt.Errorf("conntrack's counters end before %s", name)
			}
			n, err := strconv.ParseInt(fields[i], 16, 64)
			if err != nil {
				return 0, err
			}
			sum += int(n)
		}
	}
	return sum, nil
}

// tcpCounter sums one counter of TCP's over hosts.
func tcpCounter(name string, hosts ...*netnstest.Host) (sum int) {
	for _, h := range hosts {
		h.Do(func() error {
			n, err := counter("/proc/thread-self/net/netstat", "TcpExt", name)
			sum += n
			return err
		})
	}
	return sum
}
