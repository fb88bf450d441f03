package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/feature/testdata/skeleton"
	"fairlead.dev/fairlead/internal/view"
)

// A feature is a folder and a line in the list: the agent runs one that it never heard of.
func TestAFeatureIsAFolderAndALineInTheList(t *testing.T) {
	n := newNode(t, nodes)
	clock := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	added := skeleton.Feature
	added.Start = func(h feature.Host) feature.Helper { return skeleton.Watch(h, func() time.Time { return clock }) }
	n.features = append(slices.Clone(all.Features), added)
	n.restart(t)
	n.write(t, "pods.yaml", documents(podObject("awake", "10.244.1.8", ""),
		strings.Replace(podObject("sleeper", "10.244.1.9", ""), "labels: {", "labels: {rests: at-night, ", 1)))
	look := func(inKernel bool, view, metric, reason string) {
		t.Helper()
		n.mustTurn(t)
		n.host.Do(func() error {
			want := n.snapshot.Load().Rendered.State.NFT()
			if has := strings.Contains(want, "elements = { 10.244.1.9 }"); has != inKernel || strings.Contains(want, "fairlead-skeleton") != inKernel {
				t.Errorf("rendered is\n%s", want)
			}
			return nil
		})
		if left := n.diffText(t); left != "" {
			t.Errorf("the kernel lacks\n%s", left)
		}
		if got := n.shown(t, added.Views[0]); got != view {
			t.Errorf("the view is %q, want %q", got, view)
		}
		if got := n.metricsText(); !strings.Contains(got, metric) || !strings.Contains(got, `fairlead_condition{reason="`+reason+`",type="PodsRest"} 1`) {
			t.Errorf("metrics lack %q or the report %s:\n%s", metric, reason, got)
		}
	}
	look(false, "", "fairlead_skeleton_pods 0", "Day")
	clock = clock.Add(11 * time.Hour)
	if !n.news() {
		t.Error("nobody looks at what the helper observes now")
	}
	look(true, "default/sleeper", "fairlead_skeleton_pods 1", "Night")
	n.write(t, "config.yaml", "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {features: {skeleton: false}}\n")
	n.mustTurn(t)
	if s := n.snapshot.Load(); strings.Contains(s.Rendered.State.NFT(), "skeleton") || len(s.Problems) > 0 || n.diffText(t) != "" || n.shown(t, added.Views[0]) != "" {
		t.Errorf("switched off, it is still there: problems %v", s.Problems)
	}
}

// shown is the names of what a view has.
func (n *node) shown(t *testing.T, v view.View) string {
	t.Helper()
	w := httptest.NewRecorder()
	n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/"+v.Name, bytes.NewReader(nil)))
	answer := v.New()
	if err := json.Unmarshal(w.Body.Bytes(), answer.Into()); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	var names []string
	for _, r := range answer.Rows().List {
		names = append(names, r.Name)
	}
	return strings.Join(names, " ")
}
