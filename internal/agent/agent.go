// Package agent is the loop that keeps a node's kernel as the world wants it.
//
// Whatever happens (a manifest changes, a pod is attached, an interface gets an
// address, somebody deletes a route of ours) leads to the same thing: look at
// all inputs, build the world, render it, compare, and apply the difference if
// there is one. There is no other path, and nothing to roll back.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/allocations"
	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/events"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/flows"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/report"
	"fairlead.dev/fairlead/internal/settings"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/kernel"
	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/world"
)

// Config is what an agent is told when it starts.
type Config struct {
	Node           string
	Objects        Source
	Features       []feature.Feature // nil: all there are
	Status         status.Writer     // tells the cluster; nil: nobody is told
	Version        string            // of this program
	StateDir       string
	Socket         string
	MetricsAddress string
	CNIConfDir     string // where the container runtime looks for networks; "": it is not shown ours
	CNIBinDir      string // where it looks for plugins; "": ours is there already
	BootID         string // names the time since the machine was started; "": the kernel's name for it
	Log            *slog.Logger
}

// A Source is where objects come from.
type Source interface {
	Read() (*source.Objects, error)
	// Watch calls changed when there may be something new, until ctx is done.
	Watch(ctx context.Context, changed func()) error
}

// An Agent keeps one node.
type Agent struct {
	config    Config
	book      *cni.Book
	kernel    *kernel.Observer
	builder   *source.Builder
	renderer  *feature.Renderer
	metrics   *metrics
	clock     *clock
	events    *events.Log
	helpers   helpers
	started   time.Time
	metricsAt netip.AddrPort // where metrics are served; zero: nowhere
	troubles  []error        // with what was kept on the disk
	adopted   bool           // wires without a record are known; the loop's own

	unoffered atomic.Pointer[string] // why the container runtime is not shown our network; "", nil: it is

	watches *watches

	loop  *loop
	asked atomic.Int64 // turns of the loop that were asked for

	turning  sync.Mutex // the kernel and the snapshot are apart while a turn is taken
	snapshot atomic.Pointer[Snapshot]
	held     datapath.State // what the kernel holds, as far as we know; the loop's own
	flows    *flows.Redirector
	strays   *flows.Strays
	unruled  bool // connections may have begun while rules were missing; the loop's own
	// repairs that were begun, and are not known to be done; the loop's own
	repairing map[datapath.Repair]bool
	repaired  int64    // in all; the loop's own
	young     []string // links whose gates are to be settled; the loop's own

	given *world.Parts      // what was allocated until now; the loop's own
	kept  *allocations.Kept // of it; the loop's own

	settings    *settings.Node // what they were before; the loop's own
	podSettings *settings.Pods // of pods' namespaces; the loop's own
	unconfirmed bool           // some of these were set; the loop's own
	notes       report.Notes   // of the last report; the loop's own

	problemLog events.Problems // the loop's own
}

// New prepares an agent: it opens the address book and probes the kernel.
func New(c Config) (*Agent, error) {
	if c.BootID == "" {
		var err error
		if c.BootID, err = sysctl.BootID(); err != nil {
			return nil, err
		}
	}
	if c.Features == nil {
		c.Features = all.Features
	}
	if c.Status == nil {
		c.Status = status.Nowhere{}
	}
	book, err := cni.OpenBook(c.StateDir, c.BootID)
	if err != nil {
		return nil, err
	}
	book.Gone = kernel.Gone
	if n := book.Forgotten(); n > 0 {
		c.Log.Info("attachments of an earlier boot deleted", "attachments", n)
	}
	a := &Agent{
		config: c, book: book, troubles: book.Troubles(), kernel: &kernel.Observer{Capabilities: kernel.Probe()},
		builder: source.NewBuilder(c.Node, feature.Switches(c.Features)...), renderer: feature.NewRenderer(c.Features),
		metrics: newMetrics(), clock: newClock(), events: events.New(c.Node, c.Status.Earlier(), c.Status.Events, c.Log), started: time.Now(),
		watches: newWatches(),
	}
	a.events.Recorded = a.watches.ring
	var lost []error
	if a.kept, lost, err = allocations.Open(c.StateDir, kindsOf(c.Features), journal.Local{}); err != nil {
		return nil, errors.Join(err, book.Close())
	}
	for _, err := range lost {
		a.troubles = append(a.troubles, fmt.Errorf("pods may be given other ports: %w", err))
	}
	var before *settings.List
	if a.podSettings, before, err = settings.OpenPods(c.StateDir, c.BootID); err != nil {
		a.troubles = append(a.troubles, fmt.Errorf("settings of pods that are changed may stay so: %w", err))
	}
	a.given = a.kept.OnDisk().With(settings.Kept.Only(before))
	a.problemLog = events.Problems{Log: c.Log, Now: time.Now}
	if a.settings, err = settings.OpenNode(c.StateDir); err != nil {
		a.troubles = append(a.troubles, fmt.Errorf("settings may stay after uninstall: %w", err))
	}
	if err := takes(c.StateDir); err != nil {
		a.troubles = append(a.troubles, err)
	}
	a.complain()
	a.flows = flows.NewRedirector(c.Log)
	a.strays = flows.NewStrays(c.Log, c.Features)
	if m, ok := c.Objects.(prometheus.Collector); ok {
		a.metrics.registry.MustRegister(m)
	}
	if counting, ok := c.Status.(prometheus.Collector); ok {
		a.metrics.registry.MustRegister(counting)
	}
	a.loop = newLoop(a.turn, a.peek, a.audit)
	a.helpers = a.startHelpers()
	a.metrics.registry.MustRegister(collector{a})
	a.snapshot.Store(&Snapshot{Reason: "starting", next: make(chan struct{})})
	return a, nil
}

// gcPercent has the collector come twice as often as usual. An agent keeps much and
// makes little anew: that takes a third less memory for hardly more work.
const gcPercent = 50

// Run keeps the node until ctx is done. It leaves the kernel as it is: pods
// keep their network while no agent runs.
func (a *Agent) Run(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	defer func() { _ = a.book.Close() }() // only a lock is given back
	defer a.leave()
	defer a.helpers.close()
	defer a.events.Flush()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	listeners, err := a.listen()
	if err != nil {
		return err
	}
	a.metricsAt = listeners.metricsAt()
	running := make(chan struct{}, 7)
	start := func(name string, run func() error) {
		go func() {
			defer func() { running <- struct{}{} }()
			if err := run(); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		}()
	}
	start("objects", func() error { return a.config.Objects.Watch(ctx, a.loop.Changed) })
	start("kernel", func() error { return a.kernel.Watch(ctx, a.loop.Drifted) })
	start("serve", func() error { return a.serve(ctx, listeners) })
	start("offer", func() error { return a.offer(ctx) })
	start("helpers", func() error { return a.helpers.run(ctx) })
	start("status", func() error { a.config.Status.Run(ctx); return nil })
	start("loop", func() error { return a.loop.run(ctx) })
	for range cap(running) {
		<-running
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// leave has an agent of an earlier release find what this one allocated.
func (a *Agent) leave() {
	if err := a.kept.HandOver(); err != nil {
		a.config.Log.Warn("an earlier release would not find what is allocated", "error", err)
	}
}
