package status

import "github.com/prometheus/client_golang/prometheus"

// metrics are what an APIServer counts. Labels are bounded by the code.
type metrics struct {
	writes   *prometheus.CounterVec
	failures *prometheus.CounterVec
	dropped  prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_status_writes_total",
			Help: "Objects of the API server that the agent wrote."}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_status_write_failures_total",
			Help: "Objects of the API server that the agent could not write, or read before."}, []string{"kind", "reason"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_events_dropped_total",
			Help: "Events that were dropped before they were written to the API server."}),
	}
	k := newKinds()
	for _, k := range []*kind{k.report, k.node, k.pod, k.event} {
		m.writes.WithLabelValues(k.name)
		for _, r := range reasons {
			m.failures.WithLabelValues(k.name, r)
		}
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.writes, m.failures, m.dropped}
}

// Describe is part of prometheus.Collector.
func (s *APIServer) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range s.metrics.all() {
		c.Describe(ch)
	}
}

// Collect is part of prometheus.Collector.
func (s *APIServer) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.metrics.all() {
		c.Collect(ch)
	}
}
