package snat

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/pressure"
)

// Blocks is how the blocks of source ports are given out.
type Blocks struct {
	Size    int    `json:"size"` // ports in each
	Count   int    `json:"count"`
	Held    int    `json:"held"`
	Sharing int    `json:"sharing"` // pods for which none is left
	Shared  string `json:"shared"`  // the ports of those
}

// shownBlocks is nil where all pods share the range.
func shownBlocks(s feature.Seen) *Blocks {
	if s.Result == nil || InForce(s.World).Block == 0 {
		return nil
	}
	p, given := InForce(s.World), Allot(s.World)
	return &Blocks{p.Block, p.Blocks(), given.Held(), len(given.Sharing), p.Shared().String()}
}

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
	counter("fairlead_conntrack_early_drop_total", "Connections evicted early from a full conntrack table.", func(s pressure.Status) float64 { return float64(s.Conntrack.EarlyDrop) }),
	counter("fairlead_conntrack_clash_resolve_total", "Clashes that turned out to be of one connection.", func(s pressure.Status) float64 { return float64(s.Conntrack.ClashResolve) }),
	counter("fairlead_conntrack_search_restart_total", "Lookups that had to restart.", func(s pressure.Status) float64 { return float64(s.Conntrack.SearchRestart) }),
	counter("fairlead_pressure_cpu_seconds_total", "CPU time spent watching the conntrack table.", func(s pressure.Status) float64 { return s.CPU.Counting + s.CPU.Listing + s.CPU.Waits }),
}

var portFill = prometheus.NewDesc("fairlead_snat_port_fill_ratio",
	"Share of the source ports in use towards the fullest destination of a protocol.", []string{"protocol"}, nil)

// Connections that begin are followed in samples, so that what waited has a
// meaning only beside what was followed.
var (
	followed = prometheus.NewDesc("fairlead_snat_connections_followed_total",
		"New translated TCP connections that were followed until they were answered, a sample of all.", nil, nil)
	waited = prometheus.NewDesc("fairlead_snat_connections_waited_total",
		"Followed connections whose SYN was not answered normally: the far end still held their port, or gave no answer.", []string{"reason"}, nil)
)

// Blocks of source ports; where all pods share the range there are none.
var (
	blockCount = prometheus.NewDesc("fairlead_snat_blocks", "Blocks of source ports that pods hold, and that are left.", []string{"state"}, nil)
	sharing    = prometheus.NewDesc("fairlead_snat_sharing_pods", "Pods for which no block of source ports is left.", nil, nil)
)

func descriptions() []*prometheus.Desc {
	out := []*prometheus.Desc{portFill, followed, waited, blockCount, sharing}
	for _, r := range readings {
		out = append(out, r.desc)
	}
	return out
}

// collect looks at the connection table. There is nothing to tell of it until it was
// read.
func (w *watcher) collect(now feature.Seen, ch chan<- prometheus.Metric) {
	b := shownBlocks(now)
	if b != nil {
		ch <- prometheus.MustNewConstMetric(blockCount, prometheus.GaugeValue, float64(b.Held), "held")
		ch <- prometheus.MustNewConstMetric(blockCount, prometheus.GaugeValue, float64(b.Count-b.Held), "left")
	} else {
		b = &Blocks{}
	}
	ch <- prometheus.MustNewConstMetric(sharing, prometheus.GaugeValue, float64(b.Sharing))
	s := w.pressure.Look(context.Background())
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
