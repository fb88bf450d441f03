package agent

import (
	"errors"
	"fmt"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/settings"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// makeChanges applies c. Settings that cannot be written down are set all the
// same: pods need their network more than uninstall needs the record.
func (a *Agent) makeChanges(c datapath.Changes) error {
	if err := a.settings.Remember(c.Settings()); err != nil {
		a.config.Log.Warn("settings will stay after uninstall: what they were is not written down", "error", err)
	}
	return a.refusals(c, datapath.Apply(c))
}

// putBack sets those settings back that want does not ask for any more.
func (a *Agent) putBack(want datapath.State) {
	back, err := a.settings.PutBack(want)
	if err != nil {
		a.config.Log.Warn("settings that nothing asks for stay until uninstall", "error", err)
	} else if len(back) > 0 {
		a.config.Log.Info("settings that nothing asks for are as they were before", "settings", fmt.Sprint(back))
	}
}

// wasRouter reports whether the node forwarded IPv6 before an agent had it do so, or
// nobody knows that it did not.
func (a *Agent) wasRouter(last *world.World) bool {
	const key = datapath.Forwarding6
	if last != nil && a.settings.Asks(key) {
		return last.Kernel.Router
	}
	if before, changed, err := a.settings.Before(key); changed || err != nil {
		return before != "0"
	}
	now, err := sysctl.Read(key)
	return now != "0" || err != nil
}

// refusals keeps from err what single pods' namespaces refused: that is their Problem,
// and everything else holds. All namespaces in which something was set are looked at
// again.
func (a *Agent) refusals(c datapath.Changes, err error) error {
	for _, s := range c.Settings() {
		if s.Netns != "" {
			a.kernel.TCPChanged(s.Netns, nil)
			a.unconfirmed = true
		}
	}
	var all, rest datapath.Failures
	if !errors.As(err, &all) {
		return err
	}
	for _, f := range all {
		if f.Setting.Netns == "" {
			rest = append(rest, f)
			continue
		}
		a.kernel.TCPChanged(f.Setting.Netns, errors.Unwrap(f.Err))
	}
	if len(rest) == 0 {
		return nil
	}
	if len(rest) == len(all) {
		return err
	}
	return fmt.Errorf("apply: %w", rest)
}

// confirm looks at what became of pods' settings and renders that: what was made so is
// written down as done before a pod is told that it is attached, and may change it.
func (a *Agent) confirm(s *Snapshot, in source.Inputs) error {
	if !a.unconfirmed {
		return nil
	}
	a.unconfirmed = false
	var err error
	if in.TCP, err = a.kernel.ObserveTCP(in.Kernel, in.Attachments); err != nil {
		return fmt.Errorf("observe pods' settings: %w", err)
	}
	in.Allocations = a.given
	a.observe(s, &in)
	if err := a.render(s, &in); err != nil {
		return err
	}
	if datapath.DiffStates(a.held, s.Rendered.State).Empty() {
		a.held = s.Rendered.State
	}
	return a.giveOut(s.Rendered.Allocations)
}

// kindsOf are all that are kept for an agent with the given features.
func kindsOf(features []feature.Feature) []journal.Kind {
	out := []journal.Kind{source.Keeps}
	for _, f := range features {
		out = append(out, f.Keeps...)
	}
	return out
}

// giveOut puts what a turn allocates on the disk, before the kernel holds it. Where
// that fails it holds all the same, and every turn tries again: a full disk must
// not keep a node from following its cluster.
func (a *Agent) giveOut(now *world.Parts) error {
	if now != a.given {
		a.kept.Allocate(a.given, now, time.Now())
		a.given = now
	}
	unwritten := a.podSettings.Write(settings.Kept.Of(now))
	if err := a.kept.Write(now); err != nil {
		return errors.Join(unwritten, fmt.Errorf("what was given out is not on the disk: %w", err))
	}
	return unwritten
}
