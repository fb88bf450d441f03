package agent

import (
	"net/http"
	"net/netip"
	"path"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/world"
)

// NodePort is a port of this node that leads to a port of a pod, or that a pod
// waits for.
type NodePort struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	PodIP     netip.Addr `json:"podIP"`
	PodPort   uint16     `json:"podPort"`
	NodeIP    netip.Addr `json:"nodeIP"`
	NodePort  uint16     `json:"nodePort,omitempty"` // none while the pod waits
	Protocol  string     `json:"protocol"`
	IPFamily  string     `json:"ipFamily"`
	State     string     `json:"state"`            // reserved, unreserved, hostPort or waiting
	Reason    string     `json:"reason,omitempty"` // why it is unreserved
	Services  []string   `json:"services"`
}

// decided is what was decided at a turn; nil where the node is not known.
func (s *Snapshot) decided() *nodeportlocal.Decision {
	if s.World == nil || s.World.Node == nil || s.Rendered.Allocations == nil || !s.World.Config.Enabled(nodeportlocal.Feature.Name) {
		return nil
	}
	w := *s.World
	w.Allocations = s.Rendered.Allocations
	return nodeportlocal.Decide(&w)
}

func (a *Agent) serveNodePorts(w http.ResponseWriter, _ *http.Request) {
	s := a.snapshot.Load()
	d := s.decided()
	if d == nil {
		answer(w, list[NodePort](nil))
		return
	}
	unreserved := map[world.Port]reserve.Why{}
	for _, f := range s.held.Unreserved {
		unreserved[world.Port(f.Port)] = f.Why
	}
	var out []NodePort
	for _, m := range d.Mappings {
		n := NodePort{Namespace: m.Pod.Namespace, Pod: m.Pod.Name, PodIP: m.Address, PodPort: m.PodPort, NodeIP: m.NodeIP, NodePort: m.Port.Number,
			Protocol: world.ProtocolName(m.Port.Protocol), IPFamily: "IPv4", State: "reserved"}
		if m.Port.IPv6 {
			n.IPFamily = "IPv6"
		}
		why, without := unreserved[m.Port]
		switch {
		case m.HostPort:
			n.State = "hostPort"
		case m.Port.Number == 0:
			n.State = "waiting"
		case without:
			n.State, n.Reason = "unreserved", string(why)
		}
		for _, k := range m.Services {
			n.Services = append(n.Services, path.Join(k.Namespace, k.Name))
		}
		out = append(out, n)
	}
	answer(w, list(out))
}

var nodePortCount = prometheus.NewDesc("fairlead_nodeportlocal_ports",
	"Ports of the node that lead to pods, and what became of others.", []string{"state"}, nil)

// nodePortCollector tells what the last turn counted.
type nodePortCollector struct{ *Agent }

// Describe is part of prometheus.Collector.
func (nodePortCollector) Describe(ch chan<- *prometheus.Desc) { ch <- nodePortCount }

// Collect is part of prometheus.Collector.
func (c nodePortCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot.Load()
	r := s.Rendered.Results[nodeportlocal.Feature.Name]
	if r == nil {
		return
	}
	tell := func(state string, n int) {
		ch <- prometheus.MustNewConstMetric(nodePortCount, prometheus.GaugeValue, float64(n), state)
	}
	for state, n := range r.Counts {
		tell(state, n)
	}
	tell("reserved", s.held.Reserved)
	tell("unreserved", len(s.held.Unreserved))
	tell("unreleased", len(s.held.Unreleased))
}
