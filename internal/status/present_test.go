package status

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// showing is a report of one pod: which annotation it should have, and has; "": none.
func showing(want, has string) Report {
	r := report(metav1.ConditionTrue)
	p := &Pod{Namespace: "default", Name: "a", UID: "a"}
	if want != "" {
		p.Annotations = map[string]string{"fairlead.dev/test": want}
	}
	if has != "" {
		p.Present = map[string]string{"fairlead.dev/test": has}
	}
	r.Pods = listed(p)
	return r
}

// What the cluster shows as it should be is not written, what somebody else made
// of it is written at once and once, and what should not be there goes, whoever
// wrote it.
func TestAnnotationsThatTheClusterShows(t *testing.T) {
	for name, tt := range map[string]struct {
		reports []Report
		written []string // the annotation, or "none" for one that is removed
	}{
		"as it should be":                  {[]Report{showing("x", "x"), showing("x", "x")}, nil},
		"another's":                        {[]Report{showing("x", "y"), showing("x", "y"), showing("x", "x")}, []string{"x"}},
		"changed by somebody":              {[]Report{showing("x", ""), showing("x", "x"), showing("x", "y"), showing("x", "x")}, []string{"x", "x"}},
		"removed by somebody":              {[]Report{showing("x", "x"), showing("x", "")}, []string{"x"}},
		"should not be there":              {[]Report{showing("", "y"), showing("", "y")}, []string{"none"}},
		"not any more":                     {[]Report{showing("x", "x"), showing("", "x"), report(metav1.ConditionTrue)}, []string{"none"}},
		"pod not listed any more":          {[]Report{showing("x", "x"), report(metav1.ConditionTrue)}, []string{"none"}},
		"what was written comes into view": {[]Report{showing("x", ""), showing("y", ""), showing("y", "x"), showing("y", "y")}, []string{"x", "y", "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			told(t, func(s *APIServer, srv *server) {
				srv.add("a")
				for _, r := range tt.reports {
					s.Report(r)
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute)
				var written []string
				for _, line := range srv.lines("PATCH " + podPath) {
					text := "none"
					meta := line.body["metadata"].(map[string]any)
					if list, ok := meta["annotations"].(map[string]any); ok && list["fairlead.dev/test"] != nil {
						text = list["fairlead.dev/test"].(string)
					}
					if meta["uid"] != "a" {
						t.Errorf("written to whichever pod is there: %v", meta)
					}
					written = append(written, text)
				}
				if got, want := strings.Join(written, " "), strings.Join(tt.written, " "); got != want {
					t.Errorf("written %q, want %q", got, want)
				}
			})
		})
	}
}

// Beside the node's report are its pods, those that have annotations.
func TestPodsInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n1.json")
	f := NewFiles(path, slog.Default())
	f.Report(showing("", "y"))
	if _, err := os.Stat(f.podsPath()); err == nil {
		t.Error("written for nothing")
	}
	for _, want := range []string{"x", "z", ""} {
		f = NewFiles(path, slog.Default()) // another agent
		f.Report(showing(want, ""))
		content, err := os.ReadFile(f.podsPath())
		if err != nil {
			t.Fatal(err)
		}
		var p metav1.PartialObjectMetadata
		if want == "" && len(content) == 0 {
			continue
		}
		if err := json.Unmarshal(content, &p); err != nil || p.Kind != "Pod" || p.Name != "a" || p.Annotations["fairlead.dev/test"] != want {
			t.Errorf("the file has %s, %v", content, err)
		}
	}
}
