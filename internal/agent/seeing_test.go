package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// A sandbox is a pod whose namespace is shown in a directory of the test's own, as a
// runtime does, and lives on whatever becomes of that directory.
type sandbox struct {
	pod  *netnstest.Host
	path string
	q    cni.Request
}

func show(t *testing.T, dir, name string, of *netnstest.Host) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	bind(t, of.Path, path)
	return path
}

// bind shows at target what is at source.
func bind(t *testing.T, source, target string) {
	t.Helper()
	mount(t, target, func() error { return unix.Mount(source, target, "none", unix.MS_BIND, "") })
}

// cover puts an empty directory over the one at target.
func cover(t *testing.T, target string) {
	t.Helper()
	mount(t, target, func() error { return unix.Mount("none", target, "tmpfs", 0, "") })
}

func mount(t *testing.T, target string, do func() error) {
	t.Helper()
	if err := do(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) }) // many tests do it before
}

func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

func attachIn(t *testing.T, n *node, dir, name string) sandbox {
	t.Helper()
	host := netnstest.New(t)
	q := cni.Request{ContainerID: name, Interface: "eth0", Netns: show(t, dir, name, host), Namespace: "default", Pod: name, Network: "fairlead"}
	if out := refused(t, n, "add", q); out.Code != 0 {
		t.Fatalf("add: %+v", out)
	}
	return sandbox{host, q.Netns, q}
}

// reaches reports whether a pod's packets come back from its node, where nobody
// listens.
func reaches(t *testing.T, s sandbox) bool {
	t.Helper()
	for range 5 { // on a busy machine
		err := netns.Do(s.pod.Path, func() error {
			c, err := net.DialTimeout("tcp", "192.168.100.1:9", time.Second)
			if err == nil {
				c.Close()
			}
			return err
		})
		if errors.Is(err, unix.ECONNREFUSED) {
			return true
		}
	}
	return false
}

// running runs the loop inside the host while f runs.
func (n *node) running(t *testing.T, f func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- netns.Do(n.host.Path, func() error { return n.loop.run(ctx) }) }()
	if _, err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	f()
}

// blindings are ways not to see namespaces that are there.
var blindings = map[string]func(t *testing.T, dir string, s sandbox){
	"the directory is another": func(t *testing.T, dir string, _ sandbox) { cover(t, dir) },
	"the directory is missing": func(t *testing.T, dir string, _ sandbox) {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir+".away", "a"), unix.MNT_DETACH) })
	},
	"mounts are not propagated": func(t *testing.T, _ string, s sandbox) { unmount(t, s.path) },
}

// Not seeing a namespace is no proof that it is gone.
func TestAnAgentThatSeesNoNamespacesTakesNoNetworkAway(t *testing.T) {
	for what, blind := range blindings {
		t.Run(what, func(t *testing.T) {
			n, dir, s := seeing(t)
			blind(t, dir, s)
			n.restart(t)
			n.turns(t)
			if !reaches(t, s) || n.count() != 1 {
				t.Fatalf("the pod's network is gone:\n%s", n.log)
			}
			snapshot := n.snapshot.Load()
			if snapshot.Ready || !strings.Contains(snapshot.Reason, dir) {
				t.Errorf("ready %v: %q does not name %s", snapshot.Ready, snapshot.Reason, dir)
			}
			w := httptest.NewRecorder()
			n.public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			if w.Code == http.StatusOK || !strings.Contains(w.Body.String(), dir) {
				t.Errorf("readyz: %d %s", w.Code, w.Body)
			}
			if out := refused(t, n, "status", cni.Request{}); !strings.Contains(out.Msg, dir) {
				t.Errorf("STATUS: %+v", out)
			}
			if len(snapshot.Problems) == 0 || snapshot.Problems[0].Object != "Pod default/a" {
				t.Errorf("problems: %+v", snapshot.Problems)
			}
			if !strings.Contains(n.log.String(), "level=ERROR") {
				t.Errorf("it is not told:\n%s", n.log)
			}
		})
	}
}

// seeing is an agent with a pod whose namespace is shown in a directory of its own.
func seeing(t *testing.T) (*node, string, sandbox) {
	t.Helper()
	n := newNode(t, nodes)
	dir := filepath.Join(n.dir, "netns")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var s sandbox
	n.running(t, func() { s = attachIn(t, n, dir, "a") })
	if !reaches(t, s) {
		t.Fatal("the pod has no network to begin with")
	}
	return n, dir, s
}

// turns takes a few turns, more than it takes to strike something out.
func (n *node) turns(t *testing.T) {
	t.Helper()
	for range 4 {
		n.mustTurn(t)
	}
}

func (n *node) count() int { return len(n.book.Attachments().List) }

// What is hidden is repaired once it is seen again, and collected once it is gone.
func TestAnAgentSeesAgain(t *testing.T) {
	n, dir, s := seeing(t)
	cover(t, dir)
	n.restart(t)
	n.turns(t)
	link := feature.LinkName("a", "eth0")
	n.host.Run("ip", "link", "del", link)
	n.loop.setDrift(true)
	n.turns(t)
	if n.count() != 1 {
		t.Fatal("a wire that somebody deleted is no proof for an agent that sees no namespaces")
	}
	unmount(t, dir)
	n.turns(t)
	if !reaches(t, s) || !n.snapshot.Load().Ready || len(n.snapshot.Load().Problems) > 0 {
		t.Fatalf("seen again, the wire is not repaired:\n%s", n.log)
	}
	unmount(t, s.path)
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	n.turns(t)
	if n.count() != 1 || !reaches(t, s) {
		t.Fatal("the path is gone and the wire lives: the pod is taken for gone")
	}
	if !n.snapshot.Load().Ready {
		t.Errorf("one pod that cannot be seen makes the agent blind: %s", n.snapshot.Load().Reason)
	}
	n.host.Run("ip", "link", "del", link) // as the kernel does with a namespace
	n.turns(t)
	if n.count() != 0 {
		t.Errorf("no wire and no path, and the pod is not taken for gone:\n%s", n.log)
	}
}

// A wire that somebody deletes is made anew while the pod's namespace is seen.
func TestADeletedWireIsNoGonePod(t *testing.T) {
	n, _, s := seeing(t)
	n.host.Run("ip", "link", "del", feature.LinkName("a", "eth0"))
	n.loop.setDrift(true)
	n.turns(t)
	if n.count() != 1 || !reaches(t, s) {
		t.Errorf("the wire was not repaired:\n%s", n.log)
	}
}

// A path may come to name another namespace while the pod lives: nothing is done in
// that one, and the pod keeps its network.
func TestAPathThatNamesAnotherNamespaceIsNoGonePod(t *testing.T) {
	n, dir, s := seeing(t)
	unmount(t, s.path)
	other := netnstest.New(t)
	bind(t, other.Path, filepath.Join(dir, "a"))
	n.write(t, "mtu.yaml", `{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {overlay: {mtu: 1300}}}`)
	n.restart(t)
	n.turns(t)
	if n.count() != 1 || !reaches(t, s) {
		t.Errorf("the pod's network is gone:\n%s", n.log)
	}
	if links := other.Run("ip", "-o", "link"); strings.Contains(links, "eth0") {
		t.Errorf("another's namespace has the pod's wire:\n%s", links)
	}
	if snapshot := n.snapshot.Load(); !snapshot.Ready || len(snapshot.Problems) != 1 {
		t.Errorf("ready %v, problems %v", snapshot.Ready, snapshot.Problems)
	}
}
