package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/replace"
)

// Node keeps the settings of the node itself.
type Node struct {
	stateDir string
	asked    []string // when they were last put back; nil: never yet
}

// OpenNode sets aside a record that no agent wrote, before it is written anew.
func OpenNode(stateDir string) (*Node, error) {
	n := &Node{stateDir: stateDir}
	content, err := os.ReadFile(nodePath(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &record{})
	}
	if err != nil {
		return n, replace.Aside(nodePath(stateDir), err)
	}
	return n, nil
}

// A record says what settings were. It holds for one boot and one network
// namespace, since settings begin anew with each; so the record need not survive
// a crash of the machine.
type record struct {
	Of       string       `json:"of"`
	Settings []oldSetting `json:"settings"` // the last that was set comes first
}

type oldSetting struct {
	Key    string       `json:"key"`
	Before string       `json:"before"`
	Set    string       `json:"set"`             // by us
	Drags  []oldSetting `json:"drags,omitempty"` // what the kernel set along with it
}

// Remember writes down what the settings are now. What is written down already
// stays: it was so before us.
func (n *Node) Remember(settings []sysctl.Setting) error {
	settings = slices.DeleteFunc(slices.Clone(settings), ofOurs)
	if len(settings) == 0 {
		return nil // as nearly always
	}
	r, err := read(n.stateDir)
	if err != nil {
		return err
	}
	for _, s := range settings {
		if r.Settings, err = note(r.Settings, s); err != nil {
			return err
		}
	}
	return r.write(n.stateDir)
}

func (r record) write(stateDir string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replace.File(nodePath(stateDir), content, 0o644)
}

// ofOurs reports whether s is about a link of ours, with which it goes, or of another
// network namespace: what was before is among the allocations.
func ofOurs(s sysctl.Setting) bool {
	return s.Netns != "" || strings.Contains(s.Key, "/"+datapath.LinkPrefix)
}

// note writes down what s, and what the kernel sets along with it, are now.
func note(list []oldSetting, s sysctl.Setting) ([]oldSetting, error) {
	i := slices.IndexFunc(list, func(o oldSetting) bool { return o.Key == s.Key })
	if i < 0 {
		before, err := sysctl.Read(s.Key)
		if err != nil || before == "" {
			return list, err // "": its interface went
		}
		list, i = append([]oldSetting{{Key: s.Key, Before: before}}, list...), 0
	}
	list[i].Set = s.Value
	drags, err := s.Drags()
	for _, d := range slices.DeleteFunc(drags, ofOurs) {
		if list[i].Drags, err = note(list[i].Drags, d); err != nil {
			break
		}
	}
	return list, err
}

// read reads the record. One of another boot or namespace, or that no
// agent wrote, is empty.
func read(stateDir string) (record, error) {
	here, err := bootAndNamespace()
	if err != nil {
		return record{}, err
	}
	r := record{Of: here}
	content, err := os.ReadFile(nodePath(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	var found record
	if json.Unmarshal(content, &found) == nil && found.Of == here {
		r = found
	}
	return r, nil
}

func bootAndNamespace() (string, error) {
	boot, err := sysctl.BootID()
	if err != nil {
		return "", err
	}
	namespace, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("boot %s, %s", boot, namespace), nil
}

// PutBack sets those settings back that want does not ask for any more, and returns them.
// Those that cannot be set back are left to uninstall.
func (n *Node) PutBack(want datapath.State) ([]sysctl.Setting, error) {
	before, keys := n.asked, keysOf(want)
	n.asked = keys
	if before != nil && !slices.ContainsFunc(before, func(key string) bool { return !slices.Contains(keys, key) }) {
		return nil, nil
	}
	back, left, err := unasked(n.stateDir, keys)
	for _, s := range back {
		err = errors.Join(err, sysctl.Apply(s))
	}
	if err == nil && left != nil {
		err = left.write(n.stateDir)
	}
	return back, err
}

// Asks reports whether a setting was asked for when settings were last put back.
func (n *Node) Asks(key string) bool { return slices.Contains(n.asked, key) }

// unasked returns what sets the settings back that are not among keys, and the record
// without them; nil if there are none. What a setting that stays writes along with
// itself stays as that has it.
func unasked(stateDir string, keys []string) (back []sysctl.Setting, left *record, err error) {
	r, err := read(stateDir)
	if err != nil {
		return nil, nil, err
	}
	stays := slices.Clone(keys)
	for _, key := range keys {
		drags, err := (sysctl.Setting{Key: key, Value: "1"}).Drags()
		if err != nil {
			return nil, nil, err
		}
		for _, d := range drags {
			stays = append(stays, d.Key)
		}
	}
	for _, o := range r.Settings {
		if slices.Contains(stays, o.Key) {
			continue
		}
		settings, err := o.back()
		if err != nil {
			return nil, nil, err
		}
		back, left = append(back, settings...), &r
	}
	if left != nil {
		left.Settings = slices.DeleteFunc(left.Settings, func(o oldSetting) bool { return !slices.Contains(stays, o.Key) })
	}
	return back, left, nil
}

// keysOf are the settings of the node itself that s asks for.
func keysOf(s datapath.State) []string {
	out := []string{}
	for _, p := range s {
		for _, v := range p.Settings {
			if !ofOurs(v) {
				out = append(out, v.Key)
			}
		}
	}
	return out
}

// Before is what a setting was before agents changed it, and whether one did.
func (n *Node) Before(key string) (string, bool, error) {
	r, err := read(n.stateDir)
	if err != nil {
		return "", false, err
	}
	if i := slices.IndexFunc(r.Settings, func(o oldSetting) bool { return o.Key == key }); i >= 0 {
		return r.Settings[i].Before, true, nil
	}
	return "", false, nil
}

// before returns what sets the settings back that agents changed, in order.
func before(stateDir string) ([]sysctl.Setting, error) {
	r, err := read(stateDir)
	if err != nil {
		return nil, err
	}
	var out []sysctl.Setting
	for _, s := range r.Settings {
		back, err := s.back()
		if err != nil {
			return nil, err
		}
		out = append(out, back...)
	}
	return out, nil
}

// back returns what sets o back, and then what the kernel sets along with that
// and was otherwise.
func (o oldSetting) back() ([]sysctl.Setting, error) {
	s, ours, err := o.before()
	if err != nil || !ours {
		return nil, err
	}
	drags, err := s.Drags()
	if err != nil {
		return nil, err
	}
	out := []sysctl.Setting{s}
	for _, d := range o.Drags {
		was, _, err := d.before()
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(drags, func(d sysctl.Setting) bool { return d.Key == was.Key && d.Value != was.Value }) {
			out = append(out, was)
		}
	}
	return out, nil
}

// before is what o is to be: as it was before us if it is still as we set it, as
// it is otherwise.
func (o oldSetting) before() (s sysctl.Setting, ours bool, err error) {
	now, err := sysctl.Read(o.Key)
	if now == o.Set {
		return sysctl.Setting{Key: o.Key, Value: o.Before}, true, err
	}
	return sysctl.Setting{Key: o.Key, Value: now}, false, err
}
