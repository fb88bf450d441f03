package agent

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/feature/tcp"
	"fairlead.dev/fairlead/internal/pressure"
	"fairlead.dev/fairlead/internal/world"
)

// pressureConfig is what is watched for in w.
func pressureConfig(w *world.World) pressure.Config {
	c := pressure.Config{Object: "Node " + w.Node.Name}
	if !w.Config.Enabled(snat.Feature.Name) {
		return c
	}
	p := snat.InForce(w)
	c.Monotonic = w.Config.Enabled(tcp.Feature.Name) && w.Config.PodTCP.Timestamps == world.TimestampsMonotonic
	c.Ports, c.Randomized = p.Range, p.Randomized
	if len(w.Attachments.List) > 0 { // blocks are pods'; who is not known shares the range
		c.Block = p.Block
	}
	return c
}

// SNAT is how this node translates, and what the kernel shows of it.
type SNAT struct {
	Node       string      `json:"node"`
	Choice     string      `json:"choice"`     // nodeSNATPortRange
	Range      string      `json:"range"`      // in force
	Wanted     bool        `json:"wanted"`     // nodeSNATRandomizePorts
	Randomized bool        `json:"randomized"` // in force
	Missing    string      `json:"missing,omitempty"`
	Blocks     *SNATBlocks `json:"blocks,omitempty"`
	pressure.Status
}

func (a *Agent) serveSNAT(w http.ResponseWriter, r *http.Request) {
	s := a.snapshot.Load()
	if s.World == nil || s.World.Node == nil || !s.World.Config.Enabled(snat.Feature.Name) {
		answer(w, list[SNAT](nil))
		return
	}
	p := snat.InForce(s.World)
	answer(w, list([]SNAT{{a.config.Node, p.Choice.String(), p.String(), p.Wanted, p.Randomized, p.Missing, snatBlocks(s.World), a.pressure.Examine(r.Context())}}))
}

// pressureCollector looks at the connection table when it is asked.
type pressureCollector struct{ *pressure.Watch }

// A reading is a metric, and how it is read.
type reading struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(pressure.Status) float64
}

func gauge(name, help string, read func(pressure.Status) float64) reading {
	return reading{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, read}
}

func counter(name, help string, read func(pressure.Status) float64) reading {
	return reading{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, read}
}

var readings = []reading{
	gauge("fairlead_conntrack_entries", "Connections in the node's conntrack table.", func(s pressure.Status) float64 { return float64(s.Conntrack.Entries) }),
	gauge("fairlead_conntrack_entries_limit", "Connections that fit the node's conntrack table.", func(s pressure.Status) float64 { return float64(s.Conntrack.Max) }),
	counter("fairlead_conntrack_insert_failed_total", "Connections lost because their translated tuple was in use.", func(s pressure.Status) float64 { return float64(s.Conntrack.InsertFailed) }),
	counter("fairlead_conntrack_drop_total", "Packets dropped because their connection could not be tracked.", func(s pressure.Status) float64 { return float64(s.Conntrack.Drop) }),
	counter("fairlead_conntrack_early_drop_total", "Connections forgotten early to make room in a full table.", func(s pressure.Status) float64 { return float64(s.Conntrack.EarlyDrop) }),
	counter("fairlead_conntrack_clash_resolve_total", "Clashes that turned out to be of one connection.", func(s pressure.Status) float64 { return float64(s.Conntrack.ClashResolve) }),
	counter("fairlead_conntrack_search_restart_total", "Lookups that had to begin again.", func(s pressure.Status) float64 { return float64(s.Conntrack.SearchRestart) }),
	counter("fairlead_pressure_cpu_seconds_total", "CPU time taken to watch the conntrack table.", func(s pressure.Status) float64 { return s.CPU.Counting + s.CPU.Listing + s.CPU.Waits }),
}

var portFill = prometheus.NewDesc("fairlead_snat_port_fill_ratio",
	"Part of the source ports that the fullest destination of a protocol takes.", []string{"protocol"}, nil)

// Connections that begin are followed in samples, so that what waited has a
// meaning only beside what was followed.
var (
	followed = prometheus.NewDesc("fairlead_snat_connections_followed_total",
		"New translated TCP connections that were followed until they were answered, a sample of all.", nil, nil)
	waited = prometheus.NewDesc("fairlead_snat_connections_waited_total",
		"Of them, those that had to ask again: the far end still held their port, or gave no answer.", []string{"reason"}, nil)
)

// Describe is part of prometheus.Collector.
func (pressureCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, r := range readings {
		ch <- r.desc
	}
	ch <- portFill
	ch <- followed
	ch <- waited
}

// Collect is part of prometheus.Collector. There is nothing to collect until the
// table was read.
func (c pressureCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.Look(context.Background())
	if s.At.IsZero() {
		return
	}
	for _, r := range readings {
		ch <- prometheus.MustNewConstMetric(r.desc, r.kind, r.read(s))
	}
	for protocol, ratio := range s.Ratios {
		ch <- prometheus.MustNewConstMetric(portFill, prometheus.GaugeValue, ratio, protocol.String())
	}
	total := s.Waits.Total
	ch <- prometheus.MustNewConstMetric(followed, prometheus.CounterValue, float64(total.New))
	ch <- prometheus.MustNewConstMetric(waited, prometheus.CounterValue, float64(total.Held), "held")
	ch <- prometheus.MustNewConstMetric(waited, prometheus.CounterValue, float64(total.Unanswered), "unanswered")
}
