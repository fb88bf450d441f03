package controller

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

func TestMetricsAreWellNamedAndDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	m := newMetrics()
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(page), "`"+f.GetName()) {
			t.Errorf("%s is not in docs/operate.md", f.GetName())
		}
	}
}

func accepted(status metav1.ConditionStatus) []metav1.Condition {
	return []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: status}}
}

func TestAgentConfigsAreCountedByWhatBecameOfThem(t *testing.T) {
	m := newMetrics()
	m.look(map[string][]metav1.Condition{"a": accepted(metav1.ConditionTrue), "b": accepted(metav1.ConditionFalse), "c": accepted(metav1.ConditionFalse)})
	m.look(map[string][]metav1.Condition{"a": accepted(metav1.ConditionTrue), "b": accepted(metav1.ConditionFalse)})
	for status, want := range map[string]float64{"True": 1, "False": 1, "Unknown": 0} {
		if got := testutil.ToFloat64(m.configs.WithLabelValues(status)); got != want {
			t.Errorf("%s: %v, want %v", status, got, want)
		}
	}
}

// Who waits and who leads are both well while they go round, and ready while that
// is of use.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{moved: time.Now()}
		handler := h.handler(newLoop(slog.New(slog.DiscardHandler), h.turned).count)
		expect := func(path string, code int, text string) {
			t.Helper()
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if body, _ := io.ReadAll(w.Body); w.Code != code || !strings.Contains(string(body), text) {
				t.Errorf("%s: %d %s, want %d %s", path, w.Code, body, code, text)
			}
		}
		expect("/healthz", 200, "ok")
		h.asked(errors.New("no API server"))
		expect("/readyz", 503, "no API server")
		h.asked(nil)
		expect("/readyz", 200, "ok")
		h.leads(true)
		h.turned(errors.New("waiting for agentconfigs"))
		expect("/readyz", 503, "waiting for agentconfigs")
		for range 100 {
			time.Sleep(retryTime)
			h.asked(nil) // renewing the lease is not what a leader is for
		}
		expect("/readyz", 503, "waiting for agentconfigs")
		expect("/healthz", 503, "no reconcile for 3m20s")
		h.turned(nil)
		expect("/healthz", 200, "ok")
		expect("/readyz", 200, "ok")
	})
}
