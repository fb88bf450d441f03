package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// Settings of pods' network namespaces are given out as blocks of ports are, but go
// with the machine: their file need not survive its crash, and an ADD does not wait
// for the disk.

func podSettingsPath(stateDir string) string { return filepath.Join(stateDir, "pod-settings.json") }

// podSettingsFile is what the file says of one boot.
type podSettingsFile struct {
	Boot     string          `json:"boot"`
	Settings []world.Setting `json:"settings"`
}

// readPodSettings reads what an earlier agent of the same boot wrote: nil where none
// did.
func readPodSettings(stateDir, boot string) (*world.Settings, error) {
	content, err := os.ReadFile(podSettingsPath(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var found podSettingsFile
	if err == nil {
		err = json.Unmarshal(content, &found)
	}
	if err != nil {
		return nil, replace.Aside(podSettingsPath(stateDir), err)
	}
	if found.Boot != boot {
		return nil, nil
	}
	return &world.Settings{List: found.Settings}, nil
}

// writePodSettings puts the settings on the disk where it has others.
func (a *Agent) writePodSettings() error {
	now := a.given.allocations.Settings
	if now == a.settingsOnDisk {
		return nil
	}
	content, err := json.Marshal(podSettingsFile{a.config.BootID, now.List})
	if err == nil {
		err = replace.File(podSettingsPath(a.config.StateDir), content, 0o600)
	}
	if err != nil {
		return fmt.Errorf("what pods' settings were is not on the disk: %w", err)
	}
	a.settingsOnDisk = now
	return nil
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
	in.Allocations, in.Taken = a.given.allocations, a.ports.input
	problems := len(s.Problems) - len(s.Rendered.Problems)
	s.World, _ = a.builder.Build(in)
	s.World, s.Rendered = a.render(s.World)
	s.Problems = append(s.Problems[:problems:problems], s.Rendered.Problems...)
	if datapath.DiffStates(a.held, s.Rendered.State).Empty() {
		a.held = s.Rendered.State
	}
	return a.giveOut(s.Rendered.Allocations)
}

// PodSettingsBefore returns what sets the settings of pods' namespaces back that
// agents changed. What somebody set since stays.
func PodSettingsBefore(stateDir string) ([]sysctl.Setting, error) {
	content, err := os.ReadFile(podSettingsPath(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found podSettingsFile
	_ = json.Unmarshal(content, &found) // what no agent wrote says nothing
	var out []sysctl.Setting
	for _, s := range found.Settings {
		back := sysctl.Setting{Netns: s.Netns, Key: s.Key, Value: s.Before}
		if s.Netns == "" || !netns.Is(s.Netns, s.Inode) {
			continue
		}
		var err error
		if back.From, err = back.Now(); err != nil || back.From == s.Before || back.From != s.Value && back.From != s.From {
			continue // gone meanwhile, done, or somebody else's
		}
		out = append(out, back)
	}
	return out, nil
}
