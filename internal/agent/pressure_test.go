package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/pressure"
)

// watch watches the node's connection table until the test ends.
func (n *node) watch(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	var running []helper
	for _, h := range n.helpers {
		if h.Run != nil {
			running = append(running, h)
		}
	}
	ended := make(chan error, len(running))
	for _, h := range running {
		go func() { ended <- netns.Do(n.host.Path, func() error { h.Run(ctx); return nil }) }()
	}
	t.Cleanup(func() {
		stop()
		for range running {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	for end := time.Now().Add(20 * time.Second); n.pressureSeen(t).At.IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the table is not watched within 20 s")
		}
	}
}

// pressureSeen looks at the connection table and returns what is shown of it.
func (n *node) pressureSeen(t *testing.T) pressure.Status {
	t.Helper()
	w := httptest.NewRecorder()
	n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/snat", nil))
	var shown List[snat.Shown]
	must(t, json.Unmarshal(w.Body.Bytes(), &shown))
	return shown.Items[0].Status
}

// What is seen of ports is shown everywhere, and a quiet node leaves the log
// alone.
func TestPressureIsShown(t *testing.T) {
	n := newNode(t, nodes, randomize)
	n.mustTurn(t)
	n.watch(t)
	logged := n.log.String()
	get := func(path string, into any) {
		t.Helper()
		w := httptest.NewRecorder()
		n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatalf("%s: %v", w.Body, err)
		}
	}
	var shown List[snat.Shown]
	get("/v1/snat", &shown)
	if len(shown.Items) != 1 || shown.Items[0].Conntrack.Max == 0 || shown.Items[0].Range != "32768-60999" || !shown.Items[0].Randomized {
		t.Errorf("%+v", shown)
	}
	var found Findings
	get("/v1/doctor", &found)
	if text, _ := json.Marshal(found); !strings.Contains(string(text), `"id":"snat-pressure","status":"ok"`) {
		t.Errorf("%s", text)
	}
	w := httptest.NewRecorder()
	n.metrics.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if !strings.Contains(w.Body.String(), `fairlead_snat_port_fill_ratio{protocol="tcp"} 0`) {
		t.Errorf("%s", w.Body)
	}
	if now := n.log.String(); now != logged {
		t.Errorf("a quiet node says\n%s", strings.TrimPrefix(now, logged))
	}
}
