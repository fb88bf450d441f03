package overlay

import (
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/reach"
	"fairlead.dev/fairlead/internal/world"
)

// Beside the loop peers are asked whether they are reached, and whether the network
// between the nodes lets pods' addresses pass.

// A watcher is the feature's helper.
type watcher struct {
	host  feature.Host
	reach *reach.Watch
	asks  any           // what is asked follows from that
	told  reach.Verdict // at the last report
}

func start(h feature.Host) feature.Helper {
	w := &watcher{host: h, reach: reach.New(podsPassed())}
	return feature.Helper{
		Run: w.reach.Run, Observe: w.observe, Prepare: w.prepare, Report: w.report,
		Metrics: []*prometheus.Desc{peerCount}, Collect: w.collect,
	}
}

// What PodsPass can be.
var passes, passesNot = true, false

func (w *watcher) observe() []world.Part {
	if w.reach.PodsPass() {
		return []world.Part{world.PodsPass.Part(&passes)}
	}
	return []world.Part{world.PodsPass.Part(&passesNot)}
}

func (w *watcher) prepare(want feature.Seen) bool {
	in := want.World
	asks := any(nil)
	if want.Result != nil && in.Config.Overlay.Mode != world.None {
		asks = struct {
			node  *world.Node
			peers *world.Peers
			size  int
			ways  string
		}{in.Node, in.Peers, in.PodMTU(), fmt.Sprint(in.Config.Overlay.Mode, in.Ends())}
	}
	if asks == w.asks {
		return true
	}
	if w.asks = asks; asks == nil {
		w.reach.Set(nil)
		return true
	}
	w.reach.Set(&reach.Ways{Paths: Paths(in), Crossings: Crossings(in), Size: in.PodMTU(), Peers: len(in.Peers.Nodes)})
	return true
}

// report says what is known of the peers as a condition of the node; none where there is
// no overlay. A peer that is lost, and that all are found, are events.
func (w *watcher) report(feature.Seen) feature.Report {
	v, ok := w.reach.Verdict(time.Now())
	was := w.told
	if w.told = v; !ok {
		return feature.Report{}
	}
	if e, news := reachEvent(w.host.Node, was, v); news {
		w.host.Tell(e)
	}
	return feature.Report{Reports: []world.Report{{Object: "FairleadNode " + w.host.Node, Type: "PeersReachable",
		Status: v.State == reach.All, Unknown: v.State == reach.Unknown, Reason: v.Reason, Message: v.Message}}}
}

// reachEvent is what happened between two verdicts, if anything did.
func reachEvent(node string, was, now reach.Verdict) (world.Event, bool) {
	e := world.Event{Object: "Node " + node, Type: world.Warning, Reason: now.Reason, Message: now.Message}
	switch {
	case now.State == reach.Lost && was != now:
		return e, true
	case now.State == reach.All && was.State == reach.Lost:
		e.Type = world.Normal
		return e, true
	}
	return e, false
}

var peerCount = prometheus.NewDesc("fairlead_peers",
	"Other nodes by the result of the last full-size packet to them.", []string{"state"}, nil)

func (w *watcher) collect(_ feature.Seen, ch chan<- prometheus.Metric) {
	s := w.reach.Status()
	for state, n := range map[string]int{"reached": s.Reached, "unreachable": s.Unreachable, "unasked": s.Unasked} {
		ch <- prometheus.MustNewConstMetric(peerCount, prometheus.GaugeValue, float64(n), state)
	}
}

// podsPassed reports whether an agent before this one knew that pods' addresses pass
// between the nodes: the kernel has its tunnel, and no rule that leads pods to nodes
// through it. So an agent that starts changes nothing.
func podsPassed() bool {
	if _, err := netlink.LinkByName(datapath.VXLANLink); err != nil {
		return false
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	return err == nil && !slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == datapath.NodesTable })
}
