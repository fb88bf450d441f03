package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/status"
)

const nodes = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.244.2.0/24, "fd00:10:244:2::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.100.2}]}
`

const randomize = `
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {nodeSNATRandomizePorts: true}
`

// A node is an agent and the host that it keeps. Turns run on a thread inside
// the host.
type node struct {
	*Agent
	host     *netnstest.Host
	far      *netnstest.Host // where its only interface leads
	dir      string
	log      *logBuffer
	boot     string            // "": the machine's own
	state    string            // the state directory
	features []feature.Feature // nil: all there are
	stop     func()            // the loop, if it runs
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newNode makes a host with an interface that has the node's address, and an
// agent for it that reads the given manifests.
func newNode(t *testing.T, manifests ...string) *node {
	t.Helper()
	host, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(host, "eth0", far, "eth0")
	host.Address("eth0", "192.168.100.1/24")
	n := &node{host: host, far: far, dir: t.TempDir(), log: &logBuffer{}}
	if err := os.Mkdir(filepath.Join(n.dir, "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // as when a process ends: later there is no directory
		if n.Agent != nil {
			n.events.Flush()
		}
	})
	n.write(t, "objects.yaml", strings.Join(manifests, "\n---\n"))
	n.restart(t)
	return n
}

// write writes a manifest; one without content it takes away.
func (n *node) write(t *testing.T, name, content string) {
	t.Helper()
	if content == "" {
		if err := os.RemoveAll(filepath.Join(n.dir, "objects", name)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(filepath.Join(n.dir, "objects", name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// remove takes a file of manifests away: one that is empty says nothing of its objects.
func (n *node) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(n.dir, "objects", name)); err != nil {
		t.Fatal(err)
	}
}

// restart puts a new agent in the place of the old one.
func (n *node) restart(t *testing.T) {
	t.Helper()
	if n.stop != nil {
		n.stop() // two agents of one node would each undo what the other does
		n.stop = nil
	}
	if n.Agent != nil {
		if err := n.book.Close(); err != nil {
			t.Fatal(err)
		}
		n.helpers.close() // as when a process ends
		n.events.Flush()
	}
	log := slog.New(slog.NewTextHandler(n.log, nil))
	a, err := New(Config{
		Node: "n1", Objects: dir.New(filepath.Join(n.dir, "objects")), Status: status.NewFiles(filepath.Join(n.dir, "n1.json"), log),
		StateDir: cmp.Or(n.state, filepath.Join(n.dir, "state")), BootID: n.boot, Log: log, Features: n.features,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Agent = a
}

func (n *node) mustTurn(t *testing.T) {
	t.Helper()
	n.host.Do(n.turn)
}

// start runs the loop inside the host until the test ends, or another agent takes the
// place of this one.
func (n *node) start(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	loop := n.loop
	go func() { ended <- netns.Do(n.host.Path, func() error { return loop.run(ctx) }) }()
	n.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	if _, err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (n *node) diffText(t *testing.T) string {
	t.Helper()
	var text string
	n.host.Do(func() error {
		changes, err := n.diff()
		text = changes.String()
		return err
	})
	return text
}

func (n *node) post(t *testing.T, verb string, r cni.Request) (int, string) {
	t.Helper()
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/cni/"+verb, bytes.NewReader(body)))
	return w.Code, w.Body.String()
}

func (n *node) metricsText() string {
	w := httptest.NewRecorder()
	n.public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}
