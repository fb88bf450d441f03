package agent

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

func TestAgentWithoutRandomPortsSaysSoLoudlyAndKeepsPodsOnTheNetwork(t *testing.T) {
	n := newNode(t, nodes, randomize)
	n.kernel.Capabilities = world.Capabilities{FullyRandomPorts: world.Capability{Reason: "the rule is refused"}}
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
	overlay := slices.IndexFunc(all.Features, func(f feature.Feature) bool { return f.Name == "overlay" })
	if before.State[overlay] != after.State[overlay] {
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

// Before there is anything to compare with, everything would seem to be too much.
func TestNothingIsMissingBeforeTheNodeIsKnown(t *testing.T) {
	n := newNode(t, nodes)
	n.attach(t, "c1", netnstest.New(t))
	n.mustTurn(t)
	n.write(t, "objects.yaml", "")
	n.restart(t)
	for _, reason := range []string{"starting", "there is no Node n1 yet"} {
		n.host.Do(func() error {
			if changes, err := n.diff(); err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("%s: %v, and to do:\n%s", reason, err, changes)
			}
			if r := refused(t, n, "check", cni.Request{ContainerID: "c1", Interface: "eth0"}); r.Code != types.ErrTryAgainLater {
				t.Errorf("%s: check: %+v", reason, r)
			}
			return nil
		})
		n.mustTurn(t)
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

func TestAnswersAreListsForPrograms(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	var names []string
	for _, item := range n.snapshot.Load().nodes().Items {
		names = append(names, item.Name)
	}
	if !slices.Equal(names, []string{"n1", "n2"}) {
		t.Errorf("nodes %v", names)
	}
	text, err := json.Marshal(pods(n.book.Attachments()))
	if err != nil || string(text) != `{"apiVersion":"fairlead.dev/v1alpha1","kind":"List","items":[]}` {
		t.Errorf("an empty list is %s, %v", text, err)
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
	n.loop.setDrift(false) // sysctls announce nothing
	n.looks(t)
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

// Drift is counted by kind, once; what is new, or gone by itself, is none.
func TestDriftIsCountedByKind(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	counted := func() map[string]string {
		w := httptest.NewRecorder()
		n.public().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		out := map[string]string{}
		for line := range strings.Lines(w.Body.String()) {
			if of, ok := strings.CutPrefix(line, `fairlead_drift_repairs_total{kind="`); ok {
				if kind, count, _ := strings.Cut(of, `"} `); strings.TrimSpace(count) != "0" {
					out[kind] = strings.TrimSpace(count)
				}
			}
		}
		return out
	}
	n.write(t, "config.yaml", randomize)
	n.loop.setDrift(true)
	n.mustTurn(t)
	if got := counted(); len(got) > 0 {
		t.Errorf("new settings are counted as drift: %v", got)
	}
	n.host.Run("ip", "route", "del", "10.244.2.0/24")
	n.host.Run("ip", "neigh", "del", "10.244.2.1", "dev", "fl-vxlan")
	for range 2 {
		n.loop.setDrift(true)
		n.mustTurn(t)
	}
	if got, want := counted(), map[string]string{"route": "1", "neighbour": "1"}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if log := n.log.String(); strings.Count(log, "1 of kind neighbour, 1 of kind route") != 1 {
		t.Errorf("want one line about it:\n%s", log)
	}
}
