package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/events"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/report"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// A Snapshot is what one turn of the loop came to. It never changes; the next
// turn makes another.
type Snapshot struct {
	Turn     int64 // the last turn that was asked for before this one began
	Ready    bool
	Reason   string // why not ready
	Observed int64  // revision of the objects
	Applied  int64  // revision that the kernel last held in full
	World    *world.World
	Rendered feature.Rendered
	Problems []world.Problem
	Configs  []*v1alpha1.AgentConfig // that Problems are about
	Failures datapath.Failures

	unapplied string                           // what is tried again; what concerns everybody is Reason too
	since     func(kind, key string) time.Time // values of a kind of allocations came to be
	next      chan struct{}                    // closed when the next snapshot is there
}

// turn goes once through the whole line: objects, world, state, changes, kernel.
func (a *Agent) turn() error {
	a.turning.Lock()
	defer a.turning.Unlock()
	began := time.Now()
	last := a.snapshot.Load()
	s := &Snapshot{Turn: a.asked.Load(), Applied: last.Applied, Observed: last.Observed, World: last.World,
		Rendered: last.Rendered, Problems: last.Problems, Configs: last.Configs, since: a.kept.Since, next: make(chan struct{})}
	changes, err := a.reconcile(s)
	a.judge(last, s, err)
	a.tell(last, s)
	a.metrics.turn(s, changes, time.Since(began))
	a.metrics.hold(s.Rendered.Reports, a.isOwn)
	a.metrics.addresses.set(s.pools(a.book.Attachments()))
	if err == nil && !changes.Empty() {
		a.config.Log.Info("applied", "changes", changes.Len(), "revision", s.Observed, "took", time.Since(began).Round(time.Microsecond))
	}
	a.snapshot.Store(s)
	close(last.next)
	a.watches.ring()
	return err
}

// reconcile fills in s. Nothing is applied, and so nothing deleted, before every
// input has been read.
func (a *Agent) reconcile(s *Snapshot) (datapath.Changes, error) {
	var none datapath.Changes
	if err := a.adopt(); err != nil {
		return none, err
	}
	uncollected := a.collect()
	in := source.Inputs{Attachments: a.book.Attachments(), Allocations: a.given, Metrics: a.metricsAt}
	if s.World != nil {
		in.Before = s.World.Peers
	}
	var err error
	if in.Objects, err = a.config.Objects.Read(); err != nil {
		return none, err
	}
	s.Observed = in.Objects.Revision
	in.Observed = a.observed()
	if in.Kernel, err = a.kernel.Observe(in.Attachments); err != nil {
		return none, fmt.Errorf("observe kernel: %w", err)
	}
	in.Kernel.Router = a.wasRouter(s.World)
	if in.TCP, err = a.kernel.ObserveTCP(in.Kernel, in.Attachments); err != nil {
		return none, fmt.Errorf("observe settings of TCP: %w", err)
	}
	if err := a.build(s, &in); err != nil {
		return none, err
	}
	s.Configs = source.ConfigsOf(in.Objects.Configs, a.config.Node)
	if s.World.Node == nil {
		s.Reason = fmt.Sprintf("there is no Node %s yet", a.config.Node)
		return none, nil
	}
	if err := a.render(s, &in); err != nil {
		return none, err
	}
	unwritten := a.giveOut(s.Rendered.Allocations)
	changes, err := a.apply(s.Rendered.State)
	if err == nil && s.World.Config.Overlay.Mode != world.None { // where another network may count on what was set
		a.putBack(s.Rendered.State)
	}
	unconfirmed := a.confirm(s, in)
	errors.As(err, &s.Failures)
	if err == nil || s.rulesHold() {
		a.flows.Follow(s.World, s.Rendered.Results)
		a.helpers.applied(s)
		a.unruled = a.unruled && !a.strays.Look(s.World) // else the next turn does
	}
	s.Problems = append(s.Problems, a.ofDisk(uncollected, unwritten, unconfirmed)...)
	s.Problems = append(s.Problems, a.kept.Problem(a.config.Node)...)
	s.Problems = append(s.Problems, a.ofRuntime()...)
	return changes, err
}

// build makes s's world of in. How packets to peers leave depends on who they are, so
// that a world with other peers is built again where they are reached another way.
func (a *Agent) build(s *Snapshot, in *source.Inputs) error {
	if s.World != nil {
		in.Underlay = s.World.Underlay
	}
	if s.World, s.Problems = a.builder.Build(*in); s.World.Node == nil {
		return nil
	}
	seen, err := a.kernel.Underlay(s.World)
	if err != nil {
		return fmt.Errorf("observe the ways to peers: %w", err)
	}
	if seen != in.Underlay {
		in.Underlay = seen
		s.World, s.Problems = a.builder.Build(*in)
	}
	return nil
}

// mostRounds bounds how often a world is rendered in one turn because a helper turned
// out not to be able to serve what came of it.
const mostRounds = 32

// render renders s's world, and again while helpers observe that it cannot be so.
func (a *Agent) render(s *Snapshot, in *source.Inputs) error {
	built := s.Problems
	for range mostRounds {
		s.Rendered = a.renderer.Render(s.World)
		s.Problems = append(slices.Clone(built), s.Rendered.Problems...)
		if a.helpers.prepare(s) {
			return nil
		}
		a.observe(s, in)
		built = s.Problems
	}
	return errors.New("what runs beside the loop is not ready for what is to be applied, and tells nothing else about it")
}

// observe builds s's world anew, of what helpers observe now.
func (a *Agent) observe(s *Snapshot, in *source.Inputs) {
	in.Observed = a.observed()
	s.World, s.Problems = a.builder.Build(*in)
}

// rulesHold reports whether what failed was something else than the rules.
func (s *Snapshot) rulesHold() bool {
	return len(s.Failures) > 0 && !slices.ContainsFunc(s.Failures, func(f datapath.Failure) bool { return f.Kind == datapath.KindRules })
}

// apply makes the kernel hold want. Where nothing foreign happened, only what
// differs from the state applied last is looked at; where that fails, something
// did happen. What announces nothing the loop looks at by itself: see peek.
func (a *Agent) apply(want datapath.State) (datapath.Changes, error) {
	if a.loop.takeDrift() || a.held.Frees(want) {
		return a.verify(want)
	}
	changes := datapath.DiffStates(a.held, want)
	a.unruled = a.unruled || changes.MakesTables()
	if err := a.makeChanges(changes); err != nil {
		a.config.Log.Debug("the kernel is not as it was left; reading it", "error", err)
		return a.verify(want)
	}
	a.held, a.young = want, want.Gated(append(a.young, changes.Young()...))
	return changes, nil
}

// verify reads what the kernel holds of ours and makes it hold want.
func (a *Agent) verify(want datapath.State) (datapath.Changes, error) {
	began := time.Now()
	have, err := datapath.Read(want)
	if err != nil {
		return datapath.Changes{}, fmt.Errorf("read kernel: %w", err)
	}
	changes := datapath.Diff(have, want)
	a.loop.looked(time.Since(began))
	a.drifted(datapath.Repairs(have, a.held, want))
	a.unruled = a.unruled || changes.ChangesRules()
	if err := a.makeChanges(changes); err != nil {
		return changes, err
	}
	a.held, a.repairing = want, nil
	a.young = append(have.Young(), changes.Young()...)
	return changes, nil
}

// settledAtOnce is how many gates are settled when the loop looks at what announces
// nothing: each takes a dozen milliseconds, for which pods that come have to wait.
const settledAtOnce = 2

// settleGates settles some of the gates that began elsewhere than where they stay.
func (a *Agent) settleGates() {
	for n := 0; n < settledAtOnce && len(a.young) > 0; {
		link := a.young[0]
		a.young = a.young[1:]
		was, err := datapath.Settle(link)
		if err != nil {
			a.config.Log.Debug("a gate stays a filter", "link", link, "error", err)
		}
		if was {
			n++
		}
	}
}

// drifted counts and tells what others changed and is about to be repaired, each
// once, however many tries it takes.
func (a *Agent) drifted(repairs []datapath.Repair) {
	was := a.repairing
	a.repairing = map[datapath.Repair]bool{}
	kinds := map[datapath.Kind]int{}
	for _, r := range repairs {
		a.repairing[r] = true
		if !was[r] {
			kinds[r.Kind]++
			a.metrics.repairs.WithLabelValues(string(r.Kind)).Inc()
			a.repaired++
			a.config.Log.Debug("drift", "kind", r.Kind, "repair", r.Text)
		}
	}
	var changed []string
	for _, k := range datapath.Kinds {
		if n := kinds[k]; n > 0 {
			changed = append(changed, fmt.Sprintf("%d of kind %s", n, k))
		}
	}
	if len(changed) > 0 {
		a.events.Record(world.Event{Object: "Node " + a.config.Node, Type: world.Warning, Reason: "DriftRepaired",
			Message: "somebody changed what is Fairlead's, and it was put back: " + strings.Join(changed, ", ")})
	}
}

// peek looks at what announces nothing, and reports whether the kernel may not
// hold what it should.
func (a *Agent) peek() bool {
	if by := a.clock.jumped(); by != 0 {
		a.metrics.clockJumps.Inc()
		a.events.Record(world.Event{Object: "Node " + a.config.Node, Type: world.Warning, Reason: "ClockJumped",
			Message: fmt.Sprintf("the clock was set, or the machine slept, by %s; everything was looked at", by.Round(time.Millisecond))})
		return true
	}
	a.settleGates()
	pods := a.kernel.LookAtTCP()
	settled, err := a.held.Settled()
	return err != nil || !settled || pods || a.news()
}

// audit looks at all that is ours while turns go on, and reports whether something
// is neither as it was before nor as it is after. A glance may miss what is there;
// it does not miss the same twice.
func (a *Agent) audit() bool {
	first, ok := a.glance()
	if len(first) == 0 || !ok {
		return !ok
	}
	missed := map[datapath.Repair]bool{}
	for _, r := range first {
		missed[r] = true
	}
	again, ok := a.glance()
	return !ok || slices.ContainsFunc(again, func(r datapath.Repair) bool { return missed[r] })
}

// glance returns what is not as it should be, if the kernel could be read and is
// known to have been as it should.
func (a *Agent) glance() ([]datapath.Repair, bool) {
	before, began := a.holds(), time.Now()
	have, err := datapath.Glance(before)
	a.loop.looked(time.Since(began))
	if err != nil || len(before) == 0 {
		return nil, false
	}
	return datapath.Repairs(have, before, a.holds()), true
}

// holds is what the kernel holds, as far as we know.
func (a *Agent) holds() datapath.State {
	a.turning.Lock()
	defer a.turning.Unlock()
	return a.held
}

// tell puts what is new into the log, and tells the cluster how things are.
func (a *Agent) tell(last, now *Snapshot) {
	for _, r := range events.Added(last.Rendered.Reports, now.Rendered.Reports, report.KeyOf) {
		if a.isOwn(r) { // others' are in their conditions, and there may be many
			a.config.Log.Log(context.Background(), r.Severity, r.Message, "condition", r.Type, "status", r.Status)
		}
	}
	for _, e := range events.Added(last.Rendered.Events, now.Rendered.Events, func(e world.Event) world.Event { return e }) {
		a.events.Record(e)
	}
	a.problemLog.Tell(now.Problems)
	if last.Ready != now.Ready || last.Reason != now.Reason && now.Reason == "" {
		a.config.Log.Info("readiness", "ready", now.Ready, "reason", now.Reason)
	}
	a.config.Status.Report(a.report(now))
}
