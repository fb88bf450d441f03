package agent

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricsAreWellNamedAndDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, nodes)
	n.mustTurn(t)
	n.watch(t)
	problems, err := testutil.GatherAndLint(n.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := n.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(page), "`"+f.GetName()) {
			t.Errorf("%s is not in docs/operate.md", f.GetName())
		}
	}
}

type broken struct{}

func (broken) Describe(ch chan<- *prometheus.Desc) { ch <- brokenMetric }
func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(brokenMetric, errors.New("conntrack is not there"))
}

var brokenMetric = prometheus.NewDesc("broken", "cannot be read", nil, nil)

// A node without conntrack is a node in trouble: fairlead_ready is wanted most.
func TestMetricsOutliveOneThatCannotBeRead(t *testing.T) {
	m := newMetrics()
	m.registry.MustRegister(broken{})
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "fairlead_ready 0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
