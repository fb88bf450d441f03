package nodeportlocal

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Shown is a port of this node that leads to a port of a pod, or that a pod
// waits for.
type Shown struct {
	Namespace string     `json:"namespace"`
	Pod       string     `json:"pod"`
	PodIP     netip.Addr `json:"podIP"`
	PodPort   uint16     `json:"podPort"`
	NodeIP    netip.Addr `json:"nodeIP"`
	NodePort  uint16     `json:"nodePort,omitempty"` // none while the pod waits
	Protocol  string     `json:"protocol"`
	IPFamily  string     `json:"ipFamily"`
	State     string     `json:"state"`            // reserved, unreserved, hostPort or waiting; of a file allocated, whatever the socket
	Reason    string     `json:"reason,omitempty"` // why it is unreserved
	Services  []string   `json:"services"`
}

func newView() view.Answer {
	podPort := func(n Shown) string { return fmt.Sprintf("%s/%s", netip.AddrPortFrom(n.PodIP, n.PodPort), n.Protocol) }
	return &view.Table[Shown]{Name: podPort, Header: []string{"NAMESPACE", "POD", "POD PORT", "NODE PORT", "STATE", "SERVICES"},
		None: "no ports: no Service selects pods of this node, or the agent is not ready",
		Cells: func(n Shown) []string {
			node := "-"
			if n.NodePort != 0 {
				node = netip.AddrPortFrom(n.NodeIP, n.NodePort).String()
			}
			return []string{n.Namespace, n.Pod, podPort(n), node, n.State, strings.Join(n.Services, ",")}
		}}
}

// decided is what was decided; nil where the feature is switched off.
func decided(s feature.Seen) *Decision {
	if s.Result == nil {
		return nil
	}
	return Decide(s.World)
}

func (p *holder) show(_ context.Context, s feature.Seen, _ url.Values) (any, error) {
	unreserved := map[world.Port]reserve.Why{}
	for f := range p.inHand().Unreserved.All() {
		unreserved[f.Port] = f.Why
	}
	return shown(s, func(port world.Port) (state, reason string) {
		if why, without := unreserved[port]; without {
			return "unreserved", string(why)
		}
		return "reserved", ""
	}), nil
}

// recorded shows what was allocated. Of the sockets a file says nothing.
func recorded(s feature.Seen) any {
	return shown(s, func(world.Port) (state, reason string) { return "allocated", "" })
}

// shown are all mappings; held says how it is with the socket of an allocated port.
func shown(s feature.Seen, held func(world.Port) (state, reason string)) view.List[Shown] {
	var out []Shown
	for _, m := range mapped(s).Mappings {
		n := Shown{Namespace: m.Pod.Namespace, Pod: m.Pod.Name, PodIP: m.Address, PodPort: m.PodPort, NodeIP: m.NodeIP, NodePort: m.Port.Number,
			Protocol: world.ProtocolName(m.Port.Protocol), IPFamily: "IPv4"}
		if m.Port.IPv6 {
			n.IPFamily = "IPv6"
		}
		switch {
		case m.HostPort:
			n.State = "hostPort"
		case m.Port.Number == 0:
			n.State = "waiting"
		default:
			n.State, n.Reason = held(m.Port)
		}
		for _, k := range m.Services {
			n.Services = append(n.Services, path.Join(k.Namespace, k.Name))
		}
		out = append(out, n)
	}
	return view.Of(out...)
}

// inHand is what came of holding the ports last.
func (p *holder) inHand() reserve.Held {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

var portCount = prometheus.NewDesc("fairlead_nodeportlocal_ports",
	"NodePortLocal's ports of the node, by state.", []string{"state"}, nil)

// collect tells what the last turn counted.
func (p *holder) collect(s feature.Seen, ch chan<- prometheus.Metric) {
	if s.Result == nil {
		return
	}
	tell := func(state string, n int) {
		ch <- prometheus.MustNewConstMetric(portCount, prometheus.GaugeValue, float64(n), state)
	}
	for state, n := range s.Result.Counts {
		tell(state, n)
	}
	held := p.inHand()
	tell("reserved", held.Reserved)
	tell("unreserved", held.Unreserved.Len())
	tell("unreleased", len(held.Unreleased))
}
