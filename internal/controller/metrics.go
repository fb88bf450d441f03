package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// metrics are all that the controller counts. Labels are bounded by the code.
type metrics struct {
	registry *prometheus.Registry
	leader   prometheus.Gauge
	configs  *prometheus.GaugeVec
	writes   prometheus.Counter
	errors   prometheus.Counter
	silent   prometheus.Gauge
	egress   *prometheus.GaugeVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		leader:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_controller_leader", Help: "1 while this controller is the leader."}),
		configs: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_controller_agentconfigs",
			Help: "AgentConfigs by the status of their condition Accepted, as the leader sees them."}, []string{"accepted"}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_controller_writes_total", Help: "Statuses written."}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "fairlead_controller_write_errors_total", Help: "Statuses that could not be written."}),
		egress: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_controller_egress_addresses",
			Help: "Addresses of Egresses that are assigned to a node, have a number and no node (unassigned), or no number (unallocated), as the leader sees them."}, []string{"state"}),
	}
	m.silent = prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_controller_silent_agents", Help: "Agents that have not renewed their Lease in time, as the leader sees them."})
	m.look(nil)
	m.placed(&Cluster{}, nil)
	m.registry.MustRegister(m.leader, m.configs, m.writes, m.errors, m.silent, m.egress)
	return m
}

// look counts verdicts by status.
func (m *metrics) look(verdicts map[string][]metav1.Condition) {
	n := map[metav1.ConditionStatus]int{metav1.ConditionTrue: 0, metav1.ConditionFalse: 0, metav1.ConditionUnknown: 0}
	for _, conditions := range verdicts {
		if c := meta.FindStatusCondition(conditions, v1alpha1.ConditionAccepted); c != nil {
			n[c.Status]++
		}
	}
	for status, count := range n {
		m.configs.WithLabelValues(string(status)).Set(float64(count))
	}
}

// placed counts the addresses that Egresses ask for by what becomes of them.
func (m *metrics) placed(c *Cluster, verdicts map[string]Status) {
	asked, allocated, assigned := 0, 0, 0
	for _, o := range c.Objects {
		if e, ok := o.Object.(*v1alpha1.Egress); ok {
			asked += len(e.Spec.EgressIPs)
		}
	}
	for _, s := range verdicts {
		allocated += len(s.Addresses)
		for _, a := range s.Addresses {
			if a.Node != "" {
				assigned++
			}
		}
	}
	m.egress.WithLabelValues("assigned").Set(float64(assigned))
	m.egress.WithLabelValues("unassigned").Set(float64(allocated - assigned))
	m.egress.WithLabelValues("unallocated").Set(float64(asked - allocated))
}

func (m *metrics) wrote(err error) {
	if err != nil {
		m.errors.Inc()
		return
	}
	m.writes.Inc()
}
