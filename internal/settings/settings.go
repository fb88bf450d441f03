// Package settings keeps on the disk what settings were before agents changed them, and
// says how they get back.
//
// Everything else of ours in the kernel goes without a trace. A setting was something
// before, so that is written down before it is changed: of the node itself for the boot
// and the network namespace (Node), and of pods' network namespaces as part of what is
// allocated (Pods). Neither need survive a crash of the machine.
package settings

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/world"
)

// Kept are the settings of pods, in the world.
const Kept = world.Own[List]("Settings")

// Files are where settings are kept in a state directory.
func Files(stateDir string) []string { return []string{nodePath(stateDir), podsPath(stateDir)} }

func nodePath(stateDir string) string { return filepath.Join(stateDir, "settings.json") }

func podsPath(stateDir string) string { return filepath.Join(stateDir, "pod-settings.jsonl") }

// Before returns what sets all settings back that agents changed. What somebody set since
// stays, and so does what [Unknown] tells of. The node's are in order.
func Before(stateDir string) (node, pods []sysctl.Setting, err error) {
	if node, err = before(stateDir); err != nil {
		return nil, nil, err
	}
	return node, podsBefore(stateDir), nil
}

// Unknown says of which settings Before knows nothing, since their record cannot be read.
func Unknown(stateDir string) (out []error) {
	content, err := os.ReadFile(nodePath(stateDir))
	if err == nil {
		err = json.Unmarshal(content, &record{})
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		out = append(out, fmt.Errorf("of the node: %s: %w", nodePath(stateDir), err))
	}
	if _, _, err := readPods(stateDir); err != nil {
		out = append(out, fmt.Errorf("of pods: %s: %w", podsPath(stateDir), err))
	}
	return out
}

// A List is settings of network namespaces that are ours, sorted by holder and key: they
// had another value before, and get it back.
type List struct{ List []Setting }

// A Setting is one of a network namespace.
type Setting struct {
	Holder string `json:"holder,omitempty"` // key of the attachment whose namespace it is of; "": of the node's
	Netns  string `json:"netns,omitempty"`  // path of that namespace
	Inode  uint64 `json:"inode,omitempty"`  // its number
	Key    string `json:"key"`
	Before string `json:"before"`
	Value  string `json:"value"` // what we make it
	// From is what it is changed from, until it was seen to be Value. Whoever changes it
	// after that has a reason.
	From string `json:"from,omitempty"`
}

// Compare orders settings by holder and key.
func (s Setting) Compare(o Setting) int {
	return cmp.Or(cmp.Compare(s.Holder, o.Holder), cmp.Compare(s.Key, o.Key))
}

// Equal reports whether s and o say the same.
func (s *List) Equal(o *List) bool { return slices.Equal(s.List, o.List) }

// Find returns the setting of a holder, if it is ours.
func (s *List) Find(holder, key string) (Setting, bool) {
	if s == nil {
		return Setting{}, false
	}
	i, ok := slices.BinarySearchFunc(s.List, Setting{Holder: holder, Key: key}, Setting.Compare)
	if !ok {
		return Setting{}, false
	}
	return s.List[i], true
}
