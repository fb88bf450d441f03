package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/world"
)

// SNATBlocks is how the blocks of source ports are given out.
type SNATBlocks struct {
	Size    int    `json:"size"` // ports in each
	Count   int    `json:"count"`
	Held    int    `json:"held"`
	Sharing int    `json:"sharing"` // pods for which none is left
	Shared  string `json:"shared"`  // the ports of those
}

// snatBlocks is nil where all pods share the range.
func snatBlocks(w *world.World) *SNATBlocks {
	if w == nil || w.Node == nil || !w.Config.Enabled(snat.Feature.Name) || snat.InForce(w).Block == 0 {
		return nil
	}
	p, given := snat.InForce(w), snat.Allot(w)
	return &SNATBlocks{p.Block, p.Blocks(), given.Held(), len(given.Sharing), p.Shared().String()}
}

// blockMetrics count the blocks of source ports. Where all pods share the range
// there are none.
type blockMetrics struct {
	blocks  *prometheus.GaugeVec
	sharing prometheus.Gauge
}

func newBlockMetrics() blockMetrics {
	return blockMetrics{
		blocks: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "fairlead_snat_blocks",
			Help: "Blocks of source ports that pods hold, and that are left."}, []string{"state"}),
		sharing: prometheus.NewGauge(prometheus.GaugeOpts{Name: "fairlead_snat_sharing_pods",
			Help: "Pods for which no block of source ports is left."}),
	}
}

func (m blockMetrics) set(b *SNATBlocks) {
	m.blocks.Reset()
	m.sharing.Set(0)
	if b == nil {
		return
	}
	m.blocks.WithLabelValues("held").Set(float64(b.Held))
	m.blocks.WithLabelValues("left").Set(float64(b.Count - b.Held))
	m.sharing.Set(float64(b.Sharing))
}
