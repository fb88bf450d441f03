package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// Settings of pods' network namespaces are given out as blocks of ports are, but go
// with the machine: their file need not survive its crash. It is a journal, since an
// ADD writes twice: a line for each setting that changes, and the last of a setting
// counts.

func podSettingsPath(stateDir string) string { return filepath.Join(stateDir, "pod-settings.jsonl") }

// A podSettingLine is a line of the journal: of which boot all lines are that follow,
// or a setting.
type podSettingLine struct {
	Boot string `json:"boot,omitempty"`
	*world.Setting
	Gone bool `json:"gone,omitempty"` // it is ours no more
}

// A settingsFile is what is known of the file. Nothing is known after a failure.
type settingsFile struct {
	has   *world.Settings
	lines int
}

// readJournal reads what agents wrote, and of which boot. What was not written to its
// end does not count.
func readJournal(stateDir string) (*world.Settings, string, error) {
	content, err := os.ReadFile(podSettingsPath(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	boot, last := "", map[world.Setting]world.Setting{}
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var l podSettingLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, "", err
		}
		if l.Setting == nil {
			boot = l.Boot
			continue
		}
		key := world.Setting{Holder: l.Holder, Key: l.Key}
		if last[key] = *l.Setting; l.Gone {
			delete(last, key)
		}
	}
	return &world.Settings{List: slices.SortedFunc(maps.Values(last), world.Setting.Compare)}, boot, nil
}

// readPodSettings reads what an earlier agent of the same boot wrote: nil where none
// did.
func readPodSettings(stateDir, boot string) (*world.Settings, error) {
	found, of, err := readJournal(stateDir)
	if err != nil {
		return nil, replace.Aside(podSettingsPath(stateDir), err)
	}
	if of != boot {
		return nil, nil
	}
	return found, nil
}

// mostLines bounds the journal: in lines for each setting, and in any case.
const (
	mostLinesEach = 4
	mostLines     = 256
)

// writePodSettings puts the settings on the disk where it has others: what changed at
// the end of the journal, or a new journal where that has become long or is not known.
func (a *Agent) writePodSettings() error {
	now, j := a.given.Settings, a.podSettings
	if now == nil || j.has != nil && (now == j.has || now.Equal(j.has)) {
		return nil
	}
	a.podSettings = settingsFile{}
	var err error
	if more := changedSettings(j.has, now); j.has == nil || j.lines+len(more) > mostLines+mostLinesEach*len(now.List) {
		j.lines = len(now.List)
		err = a.newJournal(now)
	} else {
		j.lines += len(more)
		if err = appendTo(podSettingsPath(a.config.StateDir), more); errors.Is(err, os.ErrNotExist) {
			err = a.newJournal(now)
		}
	}
	if err != nil {
		return fmt.Errorf("what pods' settings were is not on the disk: %w", err)
	}
	a.podSettings = settingsFile{now, j.lines}
	return nil
}

// changedSettings are the lines that lead from old to now.
func changedSettings(old, now *world.Settings) []podSettingLine {
	var out []podSettingLine
	for _, s := range now.List {
		if before, known := old.Find(s.Holder, s.Key); !known || before != s {
			out = append(out, podSettingLine{Setting: &s})
		}
	}
	if old == nil {
		return out
	}
	for _, s := range old.List {
		if _, left := now.Find(s.Holder, s.Key); !left {
			out = append(out, podSettingLine{Setting: &s, Gone: true})
		}
	}
	return out
}

func (a *Agent) newJournal(s *world.Settings) error {
	lines := append([]podSettingLine{{Boot: a.config.BootID}}, changedSettings(nil, s)...)
	content, err := encodeLines(lines)
	if err != nil {
		return err
	}
	return replace.File(podSettingsPath(a.config.StateDir), content, 0o600)
}

func encodeLines(lines []podSettingLine) ([]byte, error) {
	var b bytes.Buffer
	for _, l := range lines {
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func appendTo(path string, lines []podSettingLine) error {
	content, err := encodeLines(lines)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
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

// PodSettingsBefore returns what sets the settings of pods' namespaces back that
// agents changed. What somebody set since stays.
func PodSettingsBefore(stateDir string) ([]sysctl.Setting, error) {
	found, _, err := readJournal(stateDir)
	if err != nil || found == nil {
		return nil, nil // what no agent wrote says nothing
	}
	var out []sysctl.Setting
	for _, s := range found.List {
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
