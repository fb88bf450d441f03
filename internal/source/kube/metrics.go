package kube

import "github.com/prometheus/client_golang/prometheus"

var (
	syncedDesc = prometheus.NewDesc("fairlead_source_synced",
		"1 while the objects of a kind are in sync with the API server.", []string{"kind"}, nil)
	objectsDesc = prometheus.NewDesc("fairlead_source_objects",
		"Known objects of a kind.", []string{"kind"}, nil)
)

// Describe tells which metrics there are.
func (*Source) Describe(to chan<- *prometheus.Desc) {
	to <- syncedDesc
	to <- objectsDesc
}

// Collect tells how the kinds that are watched come along.
func (s *Source) Collect(to chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.kinds {
		synced := 0.0
		if h := k.state(); h.live && h.err == nil {
			synced = 1
		}
		to <- prometheus.MustNewConstMetric(syncedDesc, prometheus.GaugeValue, synced, k.name())
		to <- prometheus.MustNewConstMetric(objectsDesc, prometheus.GaugeValue, float64(k.len()), k.name())
	}
}
