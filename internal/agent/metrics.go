package agent

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/door"
	"fairlead.dev/fairlead/internal/world"
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
	applied    prometheus.Gauge
	condition  *prometheus.GaugeVec
	cni        cniMetrics
	addresses  addressMetrics
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		sync: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fairlead_sync_seconds",
			Help: "Duration of a reconcile, from inputs to kernel.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		errors:  prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_sync_errors_total", Help: "Reconciles that could not apply everything."}),
		changes: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_changes_total", Help: "Changes made to the kernel."}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_drift_repairs_total",
			Help: "Changes that undid what somebody else did to what is Fairlead's."}, []string{"kind"}),
		clockJumps: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_clock_jumps_total",
			Help: "Times that the wall clock was set, or the machine slept."}),
		collected: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_attachments_collected_total",
			Help: "Pods that were detached without a DEL of the runtime."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_problems", Help: "Configuration errors in objects that this node sees."}),
		ready:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_ready", Help: "1 while the kernel is as desired."}),
		applied: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_last_applied_timestamp_seconds",
			Help: "When a reconcile last succeeded; 0: none did since the agent started."}),
		condition: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_condition",
			Help: "1 for the reason that holds of each condition of the node."}, []string{"type", "reason"}),
		cni: newCNIMetrics(), addresses: newAddressMetrics(),
	}
	for _, k := range datapath.Kinds {
		m.repairs.WithLabelValues(string(k))
	}
	m.registry.MustRegister(m.sync, m.errors, m.changes, m.repairs, m.clockJumps, m.collected, m.problems, m.ready, m.applied, m.condition,
		m.cni.took, m.cni.errors, m.addresses.used, m.addresses.limit)
	return m
}

func (m *metrics) turn(s *Snapshot, c datapath.Changes, took time.Duration) {
	m.sync.Observe(took.Seconds())
	m.changes.Add(float64(c.Len()))
	m.problems.Set(float64(len(s.Problems)))
	m.ready.Set(0)
	if s.Ready {
		m.ready.Set(1)
		m.applied.SetToCurrentTime()
	}
	if s.unapplied != "" && s.World != nil && s.World.Node != nil {
		m.errors.Inc()
	}
}

// hold says which conditions of the node hold, for what reason.
func (m *metrics) hold(reports []world.Report, own func(world.Report) bool) {
	m.condition.Reset()
	for _, r := range reports {
		if own(r) {
			m.condition.WithLabelValues(r.Type, r.Reason).Set(1)
		}
	}
}

func (m *metrics) handler() http.Handler {
	return door.Metrics(m.registry)
}

// cniMetrics count what the container runtime asked for, by command.
type cniMetrics struct {
	took   *prometheus.HistogramVec
	errors *prometheus.CounterVec
}

func newCNIMetrics() cniMetrics {
	m := cniMetrics{
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "fairlead_cni_seconds",
			Help: "Time to answer the container runtime.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"command"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fairlead_cni_errors_total",
			Help: "Requests of the container runtime that were refused or failed."}, []string{"command"}),
	}
	for _, c := range cniCommands {
		m.took.WithLabelValues(c)
		m.errors.WithLabelValues(c)
	}
	return m
}

func (m cniMetrics) answered(command string, took time.Duration, err error) {
	m.took.WithLabelValues(command).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(command).Inc()
	}
}

// addressMetrics count the node's pod addresses, by family. Where another network
// gives them out there are none.
type addressMetrics struct{ used, limit *prometheus.GaugeVec }

func newAddressMetrics() addressMetrics {
	vec := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"family"})
	}
	return addressMetrics{vec("fairlead_pod_addresses", "Pod addresses of the node that are in use."),
		vec("fairlead_pod_addresses_limit", "Pod addresses that the node can allocate.")}
}

func (m addressMetrics) set(pools []doctor.Pool) {
	m.used.Reset()
	m.limit.Reset()
	for _, p := range pools {
		family := "ipv4"
		if strings.Contains(p.CIDR, ":") {
			family = "ipv6"
		}
		m.used.WithLabelValues(family).Add(float64(p.Used))
		m.limit.WithLabelValues(family).Add(float64(p.Size))
	}
}
