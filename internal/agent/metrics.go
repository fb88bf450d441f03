package agent

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead.dev/fairlead/internal/datapath"
)

// metrics are all the agent counts. Labels are bounded by the code.
type metrics struct {
	registry   *prometheus.Registry
	sync       prometheus.Histogram
	errors     prometheus.Counter
	changes    prometheus.Counter
	clockJumps prometheus.Counter
	repairs    *prometheus.CounterVec
	collected  prometheus.Counter
	problems   prometheus.Gauge
	ready      prometheus.Gauge
	condition  *prometheus.GaugeVec
	blocks     blockMetrics
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fairlead_sync_seconds",
			Help: "Time from looking at the inputs to a kernel that holds what it should.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		errors:  prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_sync_errors_total", Help: "Turns of the loop that could not apply everything."}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_changes_total", Help: "Changes made to the kernel."}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_drift_repairs_total",
			Help: "Changes that undid what somebody else did to what is Fairlead's."}, []string{"kind"}),
		clockJumps: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_clock_jumps_total",
			Help: "Times that the wall clock was set, or the machine slept."}),
		collected: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_attachments_collected_total",
			Help: "Pods that were detached without a DEL of the runtime."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_problems", Help: "Mistakes in objects that this node sees."}),
		ready:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_ready", Help: "1 while the kernel holds what it should."}),
		condition: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_condition",
			Help: "1 for the reason that holds of each condition of the node."}, []string{"type", "reason"}),
		blocks: newBlockMetrics(),
	}
	for _, k := range datapath.Kinds {
		m.repairs.WithLabelValues(string(k))
	}
	m.registry.MustRegister(m.sync, m.errors, m.changes, m.repairs, m.clockJumps, m.collected, m.problems, m.ready, m.condition, m.blocks.blocks, m.blocks.sharing)
	return m
}

func (m *metrics) turn(s *Snapshot, c datapath.Changes, took time.Duration) {
	m.sync.Observe(took.Seconds())
	m.changes.Add(float64(c.Len()))
	m.problems.Set(float64(len(s.Problems)))
	m.ready.Set(0)
	if s.Ready {
		m.ready.Set(1)
	}
	if s.Reason != "" && s.World != nil && s.World.Node != nil {
		m.errors.Inc()
	}
	m.blocks.set(snatBlocks(s.World))
	m.condition.Reset()
	for _, r := range s.Rendered.Reports {
		m.condition.WithLabelValues(r.Type, r.Reason).Set(1)
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
