package snat

import (
	"context"
	"net/url"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/pressure"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Beside the loop the connection table is watched: for ports that run short, for new
// connections that wait, and for those that have an address which pods do not get any
// more.

// A watcher is the feature's helper.
type watcher struct {
	host     feature.Host
	pressure *pressure.Watch
	leaves   *leaver
	wait     *Wait         // as last observed
	before   func() string // of an agent before this one; ""
}

func start(h feature.Host) feature.Helper {
	w := &watcher{host: h, pressure: pressure.New(h.Tell, h.Log), leaves: newLeaver(h.Log), wait: &Wait{}}
	w.before = sync.OnceValue(func() string {
		before, changed, err := h.Before(TimeWaitKey)
		if err != nil || !changed {
			return "" // it is read when it is wanted
		}
		return before
	})
	return feature.Helper{
		Run: w.pressure.Run, Observe: w.observe, Prepare: w.prepare, Applied: w.applied, Report: w.report,
		Views:   map[string]func(context.Context, feature.Seen, url.Values) (any, error){"snat": w.show, "snat/who": who},
		Metrics: descriptions(), Collect: w.collect,
		Checks: func(feature.Seen) []doctor.Check { return w.pressure.Checks() },
	}
}

// Ports of one destination run short from half of them on: the kernel's search for
// one begins to take long. They are plenty again when as many connections would leave
// half of them free although conntrack kept each for 120 s again, and not for 1.
const (
	portsShort  = 0.5
	portsPlenty = portsShort / 120
)

// runShort reports whether ports run short, given whether they did before.
func runShort(did bool, s pressure.Status) bool {
	fill := s.Ratios[unix.IPPROTO_TCP]
	if did {
		return fill >= portsPlenty
	}
	return fill >= portsShort
}

// observe says whether ports run short, and what the setting was before that.
func (w *watcher) observe() []world.Part {
	now := Wait{Before: w.wait.Before, Short: runShort(w.wait.Short, w.pressure.Status())}
	if now.Before == "" {
		now.Before = w.before()
	}
	if now.Before == "" && now.Short {
		var err error
		if now.Before, err = sysctl.Read(TimeWaitKey); err != nil {
			w.host.Log.Warn("conntrack keeps closed connections as long as before", "error", err)
		}
	}
	if now != *w.wait {
		w.wait = &now
	}
	return []world.Part{TimeWait.Part(w.wait)}
}

func (w *watcher) prepare(want feature.Seen) bool {
	w.pressure.Set(pressureConfig(want))
	return true
}

func (w *watcher) applied(want feature.Seen) {
	if want.Result != nil {
		w.leaves.follow(want.World)
	}
}

func (w *watcher) report(feature.Seen) (r feature.Report) {
	for _, fill := range w.pressure.Status().Ratios {
		r.PortUsePercent = max(r.PortUsePercent, int64(100*fill))
	}
	return r
}

// pressureConfig is what is watched for.
func pressureConfig(s feature.Seen) pressure.Config {
	w := s.World
	c := pressure.Config{Object: "Node " + w.Node.Name}
	if s.Result == nil {
		return c
	}
	p := InForce(w)
	c.Monotonic = w.Config.Enabled("tcp") && w.Config.PodTCP.Timestamps == world.TimestampsMonotonic
	c.Ports, c.Randomized = p.Range, p.Randomized
	if len(w.Attachments.List) > 0 { // blocks are pods'; who is not known shares the range
		c.Block = p.Block
	}
	return c
}

// Shown is how this node translates, and what the kernel shows of it.
type Shown struct {
	Node       string  `json:"node"`
	Choice     string  `json:"choice"`     // nodeSNATPortRange
	Range      string  `json:"range"`      // in force
	Wanted     bool    `json:"wanted"`     // nodeSNATRandomizePorts
	Randomized bool    `json:"randomized"` // in force
	Missing    string  `json:"missing,omitempty"`
	Blocks     *Blocks `json:"blocks,omitempty"`
	pressure.Status
}

func (w *watcher) show(ctx context.Context, s feature.Seen, _ url.Values) (any, error) {
	return shown(s, func() pressure.Status { return w.pressure.Examine(ctx) }), nil
}

// recorded shows what is known without the connection table.
func recorded(s feature.Seen) any {
	return shown(s, func() pressure.Status { return pressure.Status{} })
}

func shown(s feature.Seen, examine func() pressure.Status) view.List[Shown] {
	if s.Result == nil {
		return view.Of[Shown]()
	}
	p := InForce(s.World)
	return view.Of(Shown{s.World.Node.Name, p.Choice.String(), p.String(), p.Wanted, p.Randomized, p.Missing, shownBlocks(s), examine()})
}
