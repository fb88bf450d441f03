package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/bench/internal/traffic"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// NodePortLocal's mappings, ports of the node that lead to ports of pods, in one
// map, and as one rule each. Every kind and number has a node and a process of its
// own.
const (
	mappingKernelAtMost = time.Millisecond      // one mapping more or less, in the kernel
	mappingEventAtMost  = 50 * time.Millisecond // until then from the event, but for one in a hundred,
	mappingEventsOf     = 10_000                // where there are so many
	mappingRateAtLeast  = 0.95                  // of the rate with the fewest
)

// Ways to make mappings.
const (
	inMap         = "Fairlead"
	inMapReserved = "Fairlead, sockets too"
	inLegacy      = "iptables-legacy"
	inNFT         = "iptables-nft"
)

// mappingRows are what is measured, the fewest first of every kind.
var mappingRows = []mappingRow{
	{inMap, 100}, {inMap, 1_000}, {inMap, 10_000}, {inMap, 50_000}, {inMapReserved, 15_000},
	{inLegacy, 100}, {inLegacy, 1_000}, {inLegacy, 10_000}, {inLegacy, 50_000},
	{inNFT, 100}, {inNFT, 1_000}, {inNFT, 10_000}, {inNFT, 50_000},
}

type mappingRow struct {
	By       string `json:"by"`
	Mappings int    `json:"mappings"`
}

func (r mappingRow) String() string { return fmt.Sprintf("%d mappings, %s", r.Mappings, r.By) }

// A mappingResult is what one row came to. Times are in milliseconds, memory in
// bytes.
type mappingResult struct {
	mappingRow
	Reserved int       `json:"reserved,omitempty"` // that have their socket too
	Program  float64   `json:"programMillis"`      // all of them, the first time
	Add      estimate  `json:"add"`                // one more, in the kernel
	Delete   estimate  `json:"delete"`
	Events   []float64 `json:"eventMillis,omitempty"` // from a Service that comes or goes until the kernel says so, sorted
	Kernel   uint64    `json:"kernelMemory"`
	Heap     uint64    `json:"heap,omitempty"` // live: objects, world and state

	Doors  []uint16  `json:"doors"`  // ports of the node that lead to a pod that listens
	Rates  []float64 `json:"rates"`  // of connections, round by round
	Fewest *estimate `json:"fewest"` // ratio to the rate with the fewest of the kind
}

// mappedNode is the node of one row, between a client and a host that has the
// addresses of all pods.
type mappedNode struct {
	node, client, pods *netnstest.Host
}

// Addresses of the client's side of the node, of its side of the pods, and theirs.
var (
	mappedClient  = netip.MustParsePrefix("192.0.2.2/24")
	mappedFront   = netip.MustParsePrefix("192.0.2.1/24")
	mappedBack    = netip.MustParsePrefix("198.51.100.1/24")
	mappedGateway = netip.MustParsePrefix("198.51.100.2/24")
	mappedPods    = netip.MustParsePrefix("10.1.0.0/24")
)

const (
	podsMapped  = 100  // so many pods share the mappings
	mappedPort  = 8000 // of a pod, the first that is mapped
	mappedRange = "10000-65535"
	mappedMost  = 65535 // all of them in one namespace
	mappedEach  = 2000  // and as many of one pod as there may be
)

func mappedPod(i int) netip.Addr {
	a := mappedPods.Addr().As4()
	a[3] = byte(i + 1)
	return netip.AddrFrom4(a)
}

func newMappedNode(b *bench) *mappedNode {
	m := &mappedNode{netnstest.New(b), netnstest.New(b), netnstest.New(b)}
	netnstest.Wire(m.node, "front", m.client, "eth0")
	netnstest.Wire(m.node, "back", m.pods, "eth0")
	m.node.Address("front", mappedFront.String())
	m.node.Address("back", mappedBack.String())
	m.client.Address("eth0", mappedClient.String())
	m.pods.Address("eth0", mappedGateway.String())
	m.node.Route(mappedPods.String(), mappedGateway.Addr().String())
	m.pods.Route(mappedFront.Masked().String(), mappedBack.Addr().String())
	m.pods.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
			Scope: unix.RT_SCOPE_HOST, Dst: &net.IPNet{IP: mappedPods.Addr().AsSlice(), Mask: net.CIDRMask(mappedPods.Bits(), 32)}})
	})
	m.node.Sysctl("net/ipv4/ip_forward", "1", "net/ipv4/ip_local_port_range", "1024 9999",
		"net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1")
	return m
}

// measureMappings first makes the mappings of each row, by this program run again
// inside the row's node, and then measures connections of all rows in turn.
func (b *bench) measureMappings() (out []mappingResult) {
	var nodes []*mappedNode
	for _, row := range mappingRows {
		if b.chosen(row.String()) {
			b.progress("%s", row)
			n := newMappedNode(b)
			nodes, out = append(nodes, n), append(out, b.mapIn(n, row))
		}
	}
	for round := range b.rounds {
		if len(out) > 0 {
			b.progress("connections through mappings: round %d of %d", round+1, b.rounds)
		}
		for turn := range out {
			i := (round + turn) % len(out)
			out[i].Rates = append(out[i].Rates, b.mappedRate(nodes[i], out[i], round))
		}
	}
	for i := range out {
		for _, fewest := range out {
			if fewest.By == out[i].By && fewest.Mappings < out[i].Mappings && out[i].Fewest == nil {
				e := estimateOf(ratios(out[i].Rates, fewest.Rates))
				out[i].Fewest = &e
			}
		}
	}
	return out
}

// mapIn runs the child process of a row. It stays, with the sockets that it has,
// until the run ends.
func (b *bench) mapIn(n *mappedNode, row mappingRow) (r mappingResult) {
	self, err := os.Executable()
	if err != nil {
		b.Fatalf("%v", err)
	}
	child := exec.Command(self, "-mappings", strconv.Itoa(row.Mappings), "-by", row.By)
	child.Stderr = os.Stderr
	stay, err := child.StdinPipe()
	if err != nil {
		b.Fatalf("%v", err)
	}
	said, err := child.StdoutPipe()
	if err == nil {
		err = netns.Start(n.node.Path, child)
	}
	if err != nil {
		b.Fatalf("%s: %v", row, err)
	}
	b.Cleanup(func() {
		stay.Close()
		_ = child.Wait() // it has said what it had to say
	})
	if err := json.NewDecoder(said).Decode(&r); err != nil {
		b.Fatalf("%s: it said nothing: %v", row, err)
	}
	return r
}

func (b *bench) mappedRate(n *mappedNode, r mappingResult, round int) float64 {
	p := traffic.Path{From: n.client.Path, To: n.pods.Path, Address: netip.IPv4Unspecified(), Port: mappedPort, CPU: round}
	for _, d := range r.Doors {
		p.Doors = append(p.Doors, netip.AddrPortFrom(mappedFront.Addr(), d))
	}
	rate, err := traffic.Connections(p, b.each)
	if err != nil {
		b.Fatalf("%s: %v", r.mappingRow, err)
	}
	return rate
}

func printMappings(w io.Writer, results []mappingResult) error {
	fmt.Fprintf(w, "\nNodePortLocal: mappings of one node, medians in ms\n")
	t := newTable(w)
	t.line("mappings", "by", "all", "add one", "95 %", "goal", "delete one", "95 %", "goal", "kernel memory", "live heap", "event p50", "p99", "goal")
	for _, r := range results {
		var goals [2]string
		var events [3]string
		heap := ""
		if r.Heap > 0 {
			heap = fmt.Sprintf("%.1f MiB", float64(r.Heap)/(1<<20))
			for i, e := range []estimate{r.Add, r.Delete} {
				goals[i] = fmt.Sprintf("%v: %s", millisOf(mappingKernelAtMost), verdict(e.Low <= millisOf(mappingKernelAtMost)))
			}
		}
		if len(r.Events) > 0 {
			p99 := quantile(r.Events, 0.99)
			events[0], events[1] = ms(quantile(r.Events, 0.5)), ms(p99)
			if r.Mappings == mappingEventsOf {
				events[2] = fmt.Sprintf("%v: %s", millisOf(mappingEventAtMost), verdict(p99 <= millisOf(mappingEventAtMost)))
			}
		}
		t.line(fmt.Sprint(r.Mappings), r.By, ms(r.Program), ms(r.Add.Median), interval(r.Add), goals[0], ms(r.Delete.Median), interval(r.Delete), goals[1],
			fmt.Sprintf("%.1f MiB", float64(r.Kernel)/(1<<20)), heap, events[0], events[1], events[2])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nNodePortLocal: new connections by way of the node, per CPU\n")
	t = newTable(w)
	t.line("mappings", "by", "connections", "to the fewest", "95 %", fmt.Sprintf("goal %.2f", mappingRateAtLeast))
	for _, r := range results {
		cells := []string{fmt.Sprint(r.Mappings), r.By, perSecond(estimateOf(r.Rates).Median)}
		if r.Fewest != nil {
			cells = append(cells, ratio(r.Fewest.Median), interval(*r.Fewest))
			if r.By == inMap {
				cells = append(cells, verdict(r.Fewest.Median >= mappingRateAtLeast || r.Fewest.High >= mappingRateAtLeast))
			}
		}
		t.line(cells...)
	}
	return t.Flush()
}

func ms(millis float64) string { return fmt.Sprintf("%.2f", millis) }
