package agent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
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

func show(t *testing.T, dir, name string, pod *netnstest.Host) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	mount(t, pod.Path, path, "none", unix.MS_BIND)
	return path
}

func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
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
	pod := netnstest.New(t)
	q := cni.Request{ContainerID: name, Interface: "eth0", Netns: show(t, dir, name, pod), Namespace: "default", Pod: name, Network: "fairlead"}
	if out := refused(t, n, "add", q); out.Code != 0 {
		t.Fatalf("add: %+v", out)
	}
	return sandbox{pod, q.Netns, q}
}

// reaches reports whether a pod's packets come back from its node.
func reaches(t *testing.T, s sandbox) bool {
	t.Helper()
	cmd := exec.Command("ping", "-c1", "-W1", "10.244.1.1")
	return netns.Do(s.pod.Path, cmd.Run) == nil
}

// running runs the loop inside the host while f runs.
func (n *node) running(t *testing.T, f func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- netns.Do(n.host.Path, func() error { return n.loop.run(ctx) }) }()
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
	"the directory is another": func(t *testing.T, dir string, _ sandbox) { mount(t, "none", dir, "tmpfs", 0) },
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
			n := newNode(t, nodes)
			dir := filepath.Join(n.dir, "netns")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			var s sandbox
			n.running(t, func() { s = attachIn(t, n, dir, "a") })
			blind(t, dir, s)
			n.restart(t)
			for range 3 {
				n.mustTurn(t)
			}
			if !reaches(t, s) || len(n.book.Attachments().List) != 1 {
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
