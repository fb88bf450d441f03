package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/replace"
)

// Pods keeps the settings of pods' network namespaces. They are given out as blocks of
// ports are, but go with the machine: their file need not survive its crash. It is a
// journal, since an ADD writes twice: a line for each setting that changes, and the last of
// a setting counts. Nothing is known of the file after a failure.
type Pods struct {
	path, boot string
	has        *List
	lines      int
}

// OpenPods returns what an earlier agent of the same boot wrote, too: nil where none did.
func OpenPods(stateDir, boot string) (*Pods, *List, error) {
	p := &Pods{path: podsPath(stateDir), boot: boot}
	found, of, err := readPods(stateDir)
	if err != nil {
		return p, nil, replace.Aside(p.path, err)
	}
	if of != boot {
		return p, nil, nil
	}
	return p, found, nil
}

// A podLine is a line of the journal: of which boot all lines are that follow,
// or a setting.
type podLine struct {
	Boot string `json:"boot,omitempty"`
	*Setting
	Gone bool `json:"gone,omitempty"` // it is ours no more
}

// readPods reads what agents wrote, and of which boot. What was not written to its
// end does not count.
func readPods(stateDir string) (*List, string, error) {
	content, err := os.ReadFile(podsPath(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	boot, last := "", map[Setting]Setting{}
	for line := range bytes.Lines(content) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var l podLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, "", err
		}
		if l.Setting == nil {
			boot = l.Boot
			continue
		}
		key := Setting{Holder: l.Holder, Key: l.Key}
		if last[key] = *l.Setting; l.Gone {
			delete(last, key)
		}
	}
	return &List{List: slices.SortedFunc(maps.Values(last), Setting.Compare)}, boot, nil
}

// mostLines bounds the journal: in lines for each setting, and in any case.
const (
	mostLinesEach = 4
	mostLines     = 256
)

// Write puts the settings on the disk where it has others: what changed at the end of the
// journal, or a new journal where that has become long or is not known.
func (p *Pods) Write(now *List) error {
	if now == nil || p.has != nil && (now == p.has || now.Equal(p.has)) {
		return nil
	}
	has, lines := p.has, p.lines
	p.has, p.lines = nil, 0
	var err error
	if more := changed(has, now); has == nil || lines+len(more) > mostLines+mostLinesEach*len(now.List) {
		lines = len(now.List)
		err = p.renew(now)
	} else {
		lines += len(more)
		if err = appendTo(p.path, more); errors.Is(err, os.ErrNotExist) {
			err = p.renew(now)
		}
	}
	if err != nil {
		return fmt.Errorf("what pods' settings were is not on the disk: %w", err)
	}
	p.has, p.lines = now, lines
	return nil
}

// changed are the lines that lead from old to now.
func changed(old, now *List) []podLine {
	var out []podLine
	for _, s := range now.List {
		if before, known := old.Find(s.Holder, s.Key); !known || before != s {
			out = append(out, podLine{Setting: &s})
		}
	}
	if old == nil {
		return out
	}
	for _, s := range old.List {
		if _, left := now.Find(s.Holder, s.Key); !left {
			out = append(out, podLine{Setting: &s, Gone: true})
		}
	}
	return out
}

func (p *Pods) renew(s *List) error {
	lines := append([]podLine{{Boot: p.boot}}, changed(nil, s)...)
	content, err := encodeLines(lines)
	if err != nil {
		return err
	}
	return replace.File(p.path, content, 0o600)
}

func encodeLines(lines []podLine) ([]byte, error) {
	var b bytes.Buffer
	for _, l := range lines {
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func appendTo(path string, lines []podLine) error {
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

// podsBefore returns what sets the settings of pods' namespaces back that agents changed.
func podsBefore(stateDir string) []sysctl.Setting {
	found, _, err := readPods(stateDir)
	if err != nil || found == nil {
		return nil // see Unknown
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
	return out
}
