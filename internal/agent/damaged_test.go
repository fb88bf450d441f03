package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature"
)

// damages are what may become of a file.
var damages = map[string]func(path string, content []byte) error{
	"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
	"truncated": func(path string, c []byte) error { return os.WriteFile(path, c[:len(c)/2], 0o600) },
	"flipped": func(path string, c []byte) error {
		return os.WriteFile(path, []byte(strings.Replace(string(c), "10.244.1.2", "10.244.1.3", 1)), 0o600)
	},
	"zeroes":  func(path string, c []byte) error { return os.WriteFile(path, make([]byte, len(c)), 0o600) },
	"missing": func(path string, _ []byte) error { return os.Remove(path) },
	"directory": func(path string, _ []byte) error {
		return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
	},
}

func (n *node) damage(t *testing.T, how, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err == nil {
		err = damages[how](path, content)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) recordOf(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(n.dir, "state", "attachments", "*", "a@eth0.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	return found[0]
}

// A pod whose record cannot be read keeps its network and its addresses, and nobody
// else is kept from starting.
func TestADamagedRecordTakesNothingFromItsPod(t *testing.T) {
	for how := range damages {
		t.Run(how, func(t *testing.T) {
			n, dir, s := seeing(t)
			n.damage(t, how, n.recordOf(t))
			n.restart(t)
			n.turns(t)
			n.restart(t) // nor does the next agent
			n.turns(t)
			if !reaches(t, s) {
				t.Fatalf("the pod's network is gone:\n%s", n.log)
			}
			snapshot := n.snapshot.Load()
			if !snapshot.Ready || len(snapshot.Problems) != 1 || !strings.Contains(snapshot.Problems[0].String(), "10.244.1.2") {
				t.Errorf("ready %v (%s), problems %v", snapshot.Ready, snapshot.Reason, snapshot.Problems)
			}
			if log := n.log.String(); how != "missing" && !strings.Contains(log, "a@eth0.json") {
				t.Errorf("the log does not name the file:\n%s", log)
			}
			_ = os.RemoveAll(filepath.Join(n.dir, "state", "last-given.json")) // so that the lowest address is next
			n.restart(t)
			n.mustTurn(t)
			n.running(t, func() {
				b := attachIn(t, n, dir, "b")
				if out := b.pod.Run("ip", "address"); strings.Contains(out, "10.244.1.2/") {
					t.Errorf("the address was given to another:\n%s", out)
				}
				if out := refused(t, n, "del", s.q); out.Code != 0 {
					t.Fatalf("del: %+v", out)
				}
				if links := n.host.Run("ip", "-o", "link"); strings.Contains(links, feature.LinkName("a", "eth0")) {
					t.Errorf("after DEL the wire is left:\n%s", links)
				}
				if out := refused(t, n, "add", s.q); out.Code != 0 {
					t.Errorf("add: %+v", out)
				}
			})
			if n.count() != 2 || !reaches(t, s) || len(n.snapshot.Load().Problems) != 0 {
				t.Errorf("%d attachments, problems %v", n.count(), n.snapshot.Load().Problems)
			}
			if left, _ := filepath.Glob(n.recordOf(t) + ".*"); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A pod that ends while its record is lost gives its address back.
func TestALostWireThatGoesIsForgotten(t *testing.T) {
	n, _, _ := seeing(t)
	n.damage(t, "empty", n.recordOf(t))
	n.restart(t)
	n.turns(t)
	n.host.Run("ip", "link", "del", feature.LinkName("a", "eth0")) // as the kernel does with a namespace
	n.turns(t)
	if n.count() != 0 || len(n.snapshot.Load().Problems) != 0 {
		t.Errorf("%d attachments, problems %v", n.count(), n.snapshot.Load().Problems)
	}
}

// No state file keeps an agent from starting, and what cannot be read is set aside.
func TestNoDamagedStateFileKeepsAnAgentFromStarting(t *testing.T) {
	for _, file := range []string{"allocations.journal", "allocations.json", "last-given.json", "settings.json"} {
		for how := range damages {
			if how == "missing" || how == "flipped" {
				continue
			}
			t.Run(file+" "+how, func(t *testing.T) {
				n, _, s := seeing(t)
				path := filepath.Join(n.dir, "state", file)
				if _, err := os.Stat(path); err != nil {
					if err := os.WriteFile(path, []byte(`{"of":"another boot"}`), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				n.damage(t, how, path)
				n.restart(t)
				n.turns(t)
				if !reaches(t, s) || !n.snapshot.Load().Ready {
					t.Errorf("ready %v: %s", n.snapshot.Load().Ready, n.snapshot.Load().Reason)
				}
				if _, err := os.Stat(path + ".damaged"); err != nil {
					t.Errorf("%v", err)
				}
				if !strings.Contains(n.log.String(), file) {
					t.Errorf("it is not told:\n%s", n.log)
				}
			})
		}
	}
}
