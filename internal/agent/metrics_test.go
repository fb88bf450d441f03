package agent

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/source/kube"
	"fairlead.dev/fairlead/internal/status"
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
	for _, name := range described(n.metrics.registry) {
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("%s is not in docs/operate.md", name)
		}
	}
}

// described returns the names of all metrics, also of those that have no value
// yet.
func described(c prometheus.Collector) []string {
	ch := make(chan *prometheus.Desc)
	go func() { c.Describe(ch); close(ch) }()
	var names []string
	for d := range ch {
		names = append(names, fqName.FindStringSubmatch(d.String())[1])
	}
	return names
}

var fqName = regexp.MustCompile(`fqName: "([^"]+)"`)

// What alerts and the dashboard ask for is what the agent counts.
func TestAlertsAndDashboardAskForMetricsThatExist(t *testing.T) {
	writer, err := status.NewAPIServer(&rest.Config{}, "n1", slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	known := slices.Concat(described(newNode(t, nodes).metrics.registry), described(writer), described(&kube.Source{}))
	ours, parts := regexp.MustCompile(`\bfairlead_\w+`), regexp.MustCompile(`_(bucket|sum|count)$`)
	for _, file := range []string{"alerts.yaml", "alerts_test.yaml", "dashboard.json"} {
		content, err := os.ReadFile("../../deploy/observability/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range ours.FindAllString(string(content), -1) {
			if !slices.Contains(known, name) && !slices.Contains(known, parts.ReplaceAllString(name, "")) {
				t.Errorf("%s asks for %s, which the agent does not count", file, name)
			}
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
