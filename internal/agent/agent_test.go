package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/world"
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
	host *netnstest.Host
	dir  string
	log  *logBuffer
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
	n := &node{host: host, dir: t.TempDir(), log: &logBuffer{}}
	if err := os.Mkdir(filepath.Join(n.dir, "objects"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.write(t, "objects.yaml", strings.Join(manifests, "\n---\n"))
	n.restart(t)
	return n
}

func (n *node) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, "objects", name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// restart puts a new agent in the place of the old one.
func (n *node) restart(t *testing.T) {
	t.Helper()
	if n.Agent != nil {
		if err := n.book.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a, err := New(Config{
		Node: "n1", Objects: dir.New(filepath.Join(n.dir, "objects")), ReportFile: filepath.Join(n.dir, "n1.json"),
		StateDir: filepath.Join(n.dir, "state"), Log: slog.New(slog.NewTextHandler(n.log, nil)),
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

// start runs the loop inside the host until the test ends.
func (n *node) start(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	loop := n.loop
	go func() { ended <- netns.Do(n.host.Path, func() error { return loop.run(ctx) }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
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

func TestAgentWithoutRandomPortsSaysSoLoudlyAndKeepsPodsOnTheNetwork(t *testing.T) {
	n := newNode(t, nodes, randomize)
	n.capabilities = world.Capabilities{FullyRandomPorts: world.Capability{Reason: "the rule is refused"}}
	n.mustTurn(t)

	rules := n.snapshot.Load().Rendered.State.NFT()
	if !strings.Contains(rules, "masquerade to :32768-60999\n") {
		t.Errorf("pods must keep their network, in the range:\n%s", rules)
	}
	if log := n.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "the rule is refused") {
		t.Errorf("no error in the log:\n%s", log)
	}
	w := httptest.NewRecorder()
	n.public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if want := `fairlead_condition{reason="KernelLacksFullyRandom",type="SNATPortsRandomized"} 1`; !strings.Contains(w.Body.String(), want) {
		t.Errorf("metrics lack %s", want)
	}
	report, err := os.ReadFile(filepath.Join(n.dir, "n1.json"))
	if err != nil || !strings.Contains(string(report), `"reason": "KernelLacksFullyRandom"`) {
		t.Errorf("report does not tell: %v\n%s", err, report)
	}
	var found Findings
	n.host.Do(func() error {
		w := httptest.NewRecorder()
		n.serveDoctor(w, httptest.NewRequest(http.MethodGet, "/v1/doctor", nil))
		return json.Unmarshal(w.Body.Bytes(), &found)
	})
	for _, id := range []string{"kernel-capabilities", "snat-ports"} {
		failed := false
		for _, f := range found.Findings {
			failed = failed || f.ID == id && f.Status == "fail"
		}
		if !failed {
			t.Errorf("doctor does not fail %s: %+v", id, found)
		}
	}
}

func TestAgentFollowsTheEphemeralRange(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	n.host.Sysctl("net/ipv4/ip_local_port_range", "40000 50000")
	before := n.snapshot.Load().Rendered
	n.mustTurn(t)
	after := n.snapshot.Load().Rendered
	if !strings.Contains(after.State.NFT(), "masquerade to :40000-50000") {
		t.Errorf("the range in force does not follow the sysctl:\n%s", after.State.NFT())
	}
	if before.State[1] != after.State[1] {
		t.Error("the overlay was rendered again although it reads no port range")
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
}

func TestAgentDeletesNothingBeforeItKnowsItsNode(t *testing.T) {
	n := newNode(t, "")
	netnstest.Wire(n.host, "fl-stale", netnstest.New(t), "eth0")
	n.mustTurn(t)
	if s := n.snapshot.Load(); s.Ready || s.Reason != "there is no Node n1 yet" {
		t.Errorf("ready %v, reason %q", s.Ready, s.Reason)
	}
	if links := n.host.Run("ip", "-o", "link"); !strings.Contains(links, "fl-stale") {
		t.Errorf("deleted before anything was read:\n%s", links)
	}
	n.write(t, "objects.yaml", nodes)
	n.mustTurn(t)
	if links := n.host.Run("ip", "-o", "link"); strings.Contains(links, "fl-stale") {
		t.Errorf("what a crashed agent left stays:\n%s", links)
	}
}

func TestAgentAfterRestartRewritesNothing(t *testing.T) {
	n := newNode(t, nodes, randomize)
	n.start(t)
	pod := netnstest.New(t)
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	n.restart(t)
	n.log.b.Reset()
	n.mustTurn(t)
	if log := n.log.String(); strings.Contains(log, "msg=applied") {
		t.Errorf("a restarted agent changed the kernel:\n%s", log)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
}

func TestAddIsIdempotentAndDelFreesTheAddress(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	request := cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path, Namespace: "default", Pod: "a"}
	_, first := n.post(t, "add", request)
	code, second := n.post(t, "add", request)
	if code != http.StatusOK || first != second || !strings.Contains(first, "10.244.1.2") || !strings.Contains(first, "fd00:10:244:1::2") {
		t.Fatalf("first %s, then %d %s", first, code, second)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("add answered before the kernel held everything:\n%s", d)
	}
	for range 2 {
		if code, body := n.post(t, "del", request); code != http.StatusOK {
			t.Fatalf("del: %d %s", code, body)
		}
	}
	if pools, err := n.book.Pools(n.snapshot.Load().World.Node.PodCIDRs); err != nil || pools[0].Used+pools[1].Used != 0 {
		t.Errorf("addresses stay taken: %+v, %v", pools, err)
	}
}

func TestAPodThatCannotBeWiredDisturbsNoOther(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	good, occupied := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(occupied, "eth0", good, "other") // its eth0 is taken
	code, body := n.post(t, "add", cni.Request{ContainerID: "c2", Interface: "eth0", Netns: occupied.Path})
	if code != http.StatusInternalServerError || !strings.Contains(body, "file exists") {
		t.Errorf("a pod whose eth0 is taken: %d %s", code, body)
	}
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: good.Path}); code != http.StatusOK {
		t.Errorf("the next pod: %d %s", code, body)
	}
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c3", Interface: "eth0", Netns: "/run/netns/nowhere"}); code != http.StatusBadRequest {
		t.Errorf("a pod without a namespace: %d %s", code, body)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
	if list := n.book.Attachments().List; len(list) != 1 {
		t.Errorf("%d attachments in the book, want 1", len(list))
	}
}

func TestATombstoneIsHonoured(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	stone := filepath.Join(n.dir, "state", "tombstones", "c1@eth0")
	if err := os.WriteFile(stone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(n.book.Attachments().List) != 0 {
		t.Error("the attachment outlived its tombstone")
	}
	if _, err := os.Stat(stone); !os.IsNotExist(err) {
		t.Errorf("the tombstone stays: %v", err)
	}
	if links := n.host.Run("ip", "-o", "link"); strings.Count(links, "fl-") != 1 {
		t.Errorf("the wire stays:\n%s", links)
	}
}

func TestAnswersAreListsForPrograms(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	var names []string
	for _, item := range n.nodes().Items {
		names = append(names, item.Name)
	}
	if !slices.Equal(names, []string{"n1", "n2"}) {
		t.Errorf("nodes %v", names)
	}
	text, err := json.Marshal(n.pods())
	if err != nil || string(text) != `{"apiVersion":"fairlead.dev/v1alpha1","kind":"List","items":[]}` {
		t.Errorf("an empty list is %s, %v", text, err)
	}
}

func TestDelAfterTheNamespaceIsGone(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	request := cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}
	if code, body := n.post(t, "add", request); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	if err := netns.Delete(pod.Path); err != nil {
		t.Fatal(err)
	}
	request.Netns = "" // as runtimes say it then
	if code, body := n.post(t, "del", request); code != http.StatusOK {
		t.Errorf("del: %d %s", code, body)
	}
	if len(n.book.Attachments().List) != 0 {
		t.Error("the attachment stays")
	}
}

func TestPeersThatWentWhileNoAgentRanAreCollectedAtStart(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	one, _, _ := strings.Cut(nodes, "---")
	n.write(t, "objects.yaml", one)
	n.restart(t)
	n.mustTurn(t)
	routes := n.host.Run("ip", "route") + n.host.Run("ip", "neigh", "show", "nud", "permanent") + n.host.Run("bridge", "fdb")
	if strings.Contains(routes, "10.244.2.") || strings.Contains(routes, "192.168.100.2") {
		t.Errorf("what led to the peer stays:\n%s", routes)
	}
}

// The runtime made the sandbox anew without saying so, and the old one is not
// gone yet.
func TestAddAgainInAnotherNamespaceWiresThat(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	before, after := netnstest.New(t), netnstest.New(t)
	for _, pod := range []*netnstest.Host{before, after} {
		if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
			t.Fatalf("add: %d %s", code, body)
		}
	}
	if links := after.Run("ip", "-o", "link"); !strings.Contains(links, "eth0") {
		t.Errorf("the new namespace has no wire:\n%s", links)
	}
	if links := before.Run("ip", "-o", "link"); strings.Contains(links, "eth0") {
		t.Errorf("the old namespace keeps its wire:\n%s", links)
	}
}

// Who asks for the difference while a turn is taken sees the kernel before it or
// after it, not halfway.
func TestDiffSeesNoTurnHalfway(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 10 {
			for _, verb := range []string{"add", "del"} {
				if code, body := n.post(t, verb, cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
					t.Errorf("%s: %d %s", verb, code, body)
				}
			}
		}
	}()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		default:
		}
		if d := n.diffText(t); d != "" {
			t.Errorf("the kernel lacks:\n%s", d)
			<-ended
			return
		}
	}
}

func TestASettingThatSomebodyChangedIsSetAgainAtTheNextLook(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	n.host.Sysctl("net/ipv4/ip_forward", "0")
	n.loop.drift.Store(false) // sysctls announce nothing
	n.mustTurn(t)
	if v := strings.TrimSpace(n.host.Run("cat", "/proc/sys/net/ipv4/ip_forward")); v != "1" {
		t.Errorf("ip_forward is %s: nothing is forwarded", v)
	}
}

func TestANodeKeepsItsAdvertisedRoutesWhenItBeginsToForward(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv6/conf/all/forwarding", "0")
	n.host.Run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "proto", "ra")
	for range 2 {
		n.mustTurn(t)
	}
	if v := strings.TrimSpace(n.host.Run("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra")); v != "2" {
		t.Errorf("accept_ra is %s", v)
	}
	if routes := n.host.Run("ip", "-6", "route"); !strings.Contains(routes, "default via fe80::1") {
		t.Errorf("the default route is gone:\n%s", routes)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
}

func TestAPodInWhoseNamespaceIPv6IsOffGetsIt(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	pod := netnstest.New(t)
	pod.Sysctl("net/ipv6/conf/all/disable_ipv6", "1", "net/ipv6/conf/default/disable_ipv6", "1")
	if code, body := n.post(t, "add", cni.Request{ContainerID: "c1", Interface: "eth0", Netns: pod.Path}); code != http.StatusOK {
		t.Errorf("add: %d %s", code, body)
	}
}
