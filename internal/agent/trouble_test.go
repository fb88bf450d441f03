package agent

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/status"
)

// serves fails the test unless the node says that it can serve new pods, and serves
// one.
func (n *node) serves(t *testing.T, dir, name string) {
	t.Helper()
	s := n.snapshot.Load()
	if !s.Ready {
		t.Errorf("not ready: %s", s.Reason)
	}
	if network := n.report(s).Network; network.State != status.NetworkWorks {
		t.Errorf("the Node is told: %+v", network)
	}
	if out := refused(t, n, "status", cni.Request{}); out.Code != 0 {
		t.Errorf("STATUS: %+v", out)
	}
	w := httptest.NewRecorder()
	n.public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("readyz: %d %s", w.Code, w.Body)
	}
	n.running(t, func() {
		if s := attachIn(t, n, dir, name); !reaches(t, s) {
			t.Error("a new pod has no network")
		}
	})
}

func (n *node) problemOf(object string) string {
	for _, p := range n.snapshot.Load().Problems {
		if p.Object == object {
			return p.String()
		}
	}
	return ""
}

// What a pod does to its own interface is its own affair.
func TestAPodThatReplacesItsInterfaceIsItsOwnProblem(t *testing.T) {
	for what, commands := range map[string][]string{
		"replaced": {"link del eth0", "link add eth0 type veth peer name x"},
		"deleted":  {"link del eth0"},
		"renamed":  {"link set eth0 down", "link set eth0 name eth1"},
		"stolen":   {"link del eth0", "link add x type veth peer name eth0", "link set x up", "link set eth0 up"},
	} {
		t.Run(what, func(t *testing.T) {
			n, dir, s := seeing(t)
			for _, c := range commands {
				s.pod.Run("ip", strings.Fields(c)...)
			}
			n.tries(t)
			fails := what == "replaced" || what == "stolen"
			if problem := n.problemOf("Pod default/a"); (problem != "") != fails {
				t.Errorf("problem of the pod: %q", problem)
			}
			n.serves(t, dir, "b")
			if fails {
				n.loop.setDrift(true)
				n.running(t, func() {
					before := n.turnsTaken()
					time.Sleep(3 * time.Second)
					t.Logf("%s: %d turns in 3 s", what, n.turnsTaken()-before)
				})
				s.pod.Run("ip", "link", "del", "eth0")
				n.loop.setDrift(true)
				n.mustTurn(t)
				if problem := n.problemOf("Pod default/a"); problem != "" || !reaches(t, s) {
					t.Errorf("once its interface can be made the problem stays: %q", problem)
				}
			}
		})
	}
}

// tries takes turns as the loop does after a failure.
func (n *node) tries(t *testing.T) {
	t.Helper()
	for range 4 {
		n.loop.setDrift(true)
		n.host.Do(func() error { _ = n.turn(); return nil })
	}
}

func (n *node) turnsTaken() int {
	count := 0
	for line := range strings.Lines(n.metricsText()) {
		_, _ = fmt.Sscanf(line, "fairlead_sync_seconds_count %d", &count) // of one line
	}
	return count
}

// A peer's addresses are that peer's affair.
func TestAPeersNonsenseIsThePeersProblem(t *testing.T) {
	for _, address := range []string{"0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255", "192.168.100.1", "169.254.0.9"} {
		for _, mode := range []string{"vxlan", "direct"} {
			t.Run(address+" "+mode, func(t *testing.T) {
				n := newNode(t, strings.ReplaceAll(nodes, "192.168.100.2", address), strings.ReplaceAll(`
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {overlay: {mode: MODE}}`, "MODE", mode))
				dir := filepath.Join(n.dir, "netns")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				n.tries(t)
				n.serves(t, dir, "a")
				t.Log(n.problemOf("Node n2"))
				if failures := n.snapshot.Load().Failures; len(failures) > 0 && n.problemOf("Node n2") == "" {
					t.Errorf("%v is nobody's problem", failures)
				}
			})
		}
	}
}

// A disk that takes nothing keeps no pod out: the kernel has what is not written.
func TestAFullDiskKeepsNoPodOut(t *testing.T) {
	for _, how := range []string{"full", "read-only"} {
		t.Run(how, func(t *testing.T) {
			n := newNode(t, nodes)
			dir, state := filepath.Join(n.dir, "netns"), filepath.Join(n.dir, "small")
			for _, d := range []string{dir, state} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			mountSmall(t, state)
			n.state = state
			n.restart(t)
			var a sandbox
			n.running(t, func() { a = attachIn(t, n, dir, "a") })
			if how == "read-only" { // the file that is the lock is open for writing
				must(t, n.book.Close())
				n.Agent = nil
			}
			fill(t, state, how)
			if n.Agent == nil {
				n.restart(t)
				n.mustTurn(t)
			}
			n.serves(t, dir, "b")
			n.host.Do(n.turn)
			if problem := n.problemOf("Node n1"); problem == "" {
				t.Error("it is not told")
			}
			n.running(t, func() {
				if out := refused(t, n, "del", a.q); out.Code != 0 {
					t.Errorf("del: %+v", out)
				}
			})
			n.restart(t) // on the same disk
			n.mustTurn(t)
			n.serves(t, dir, "c")
			drain(t, state, how)
			for range 2 {
				n.mustTurn(t)
			}
			if found, _ := filepath.Glob(filepath.Join(state, "attachments", "*", "c@eth0.json")); len(found) != 1 {
				t.Errorf("with room on the disk nothing is written: %v, %v", found, n.snapshot.Load().Problems)
			}
		})
	}
}

// An agent that is killed while it tries whether its directory takes something leaves
// nothing that uninstall would not find.
func TestTriesAreAmongTheFilesOfTheState(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, ".takes-123.tmp")
	must(t, os.WriteFile(left, nil, 0o600))
	if files := StateFiles(dir); !slices.Contains(files, left) {
		t.Errorf("%s is not among %v", left, files)
	}
}
