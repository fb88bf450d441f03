package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// get is what the agent answers.
func (n *node) get(t *testing.T, path string) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	n.host.Do(func() error {
		n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return nil
	})
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

// A file answers what the agent does that wrote it, in a place where nothing of its node
// is; or says that it cannot.
func TestAFileAnswersWhatTheAgentDoes(t *testing.T) {
	n := newNode(t, nodes, strings.Replace(randomize, "true", "true, nodeSNATPortBlock: 512", 1), "apiVersion: v1\nkind: Gadget\nmetadata: {name: g}")
	n.config.Version = "v0.2.0"
	n.attach(t, "c1", netnstest.New(t))
	for range 2 {
		n.mustTurn(t)
	}
	d, err := dump.Read(bytes.NewReader(n.get(t, "/v1/dump")))
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(d.At); d.By != n.config.Version || since < 0 || since > time.Hour {
		t.Errorf("written by %q, %s ago", d.By, since)
	}
	file, err := Recall(d, all.Features)
	if err != nil {
		t.Fatal(err)
	}
	read := func(path string) []byte {
		v, err := file.Answer(path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, path := range []string{"/v1/problems", "/v1/pods", "/v1/nodes", "/v1/render", "/v1/diff", "/v1/nodeportlocal"} {
		if got, want := strings.TrimSpace(string(read(path))), strings.TrimSpace(string(n.get(t, path))); got != want {
			t.Errorf("%s: the file says\n%s\nthe agent\n%s", path, got, want)
		}
	}
	if text := string(read("/v1/snat")); !strings.Contains(text, `"held":1`) {
		t.Errorf("no pod has a block: %s", text)
	}
	sameFindings(t, read("/v1/doctor"), n.get(t, "/v1/doctor"))
}

// sameFindings compares what a file answers with what the node does. As many as below are
// skipped; whoever adds one says so.
func sameFindings(t *testing.T, file, node []byte) {
	t.Helper()
	byID := func(text []byte) (ids []string, by map[string][]doctor.Finding) {
		var found Findings
		if err := json.Unmarshal(text, &found); err != nil {
			t.Fatal(err)
		}
		by = map[string][]doctor.Finding{}
		for _, f := range found.Findings {
			if by[f.ID] == nil {
				ids = append(ids, f.ID)
			}
			by[f.ID] = append(by[f.ID], f)
		}
		return ids, by
	}
	ids, read := byID(file)
	asked, looked := byID(node)
	if !reflect.DeepEqual(ids, asked) {
		t.Errorf("a file is asked %v, a node %v", ids, asked)
	}
	var skipped []string
	for _, id := range ids {
		if read[id][0].Status == doctor.Skipped {
			skipped = append(skipped, id)
		} else if !reflect.DeepEqual(read[id], looked[id]) {
			t.Errorf("%s: the file finds\n%+v\nthe node\n%+v", id, read[id], looked[id])
		}
	}
	want := []string{"kernel-state", "guard", "overlay-mtu", "overlay-reverse-path", "overlay-source-check", "snat-leaks", "snat-pressure", "snat-reuse"}
	if !reflect.DeepEqual(skipped, want) {
		t.Errorf("skipped are %v, want %v", skipped, want)
	}
}

// Before there is a world there is nothing to write; one without the node can be written,
// and says that nothing is known of it.
func TestAFileOfAnAgentThatIsNotReady(t *testing.T) {
	n := newNode(t, "")
	w := httptest.NewRecorder()
	n.api().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/dump", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "nothing to write yet: starting") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	n.mustTurn(t)
	d, err := dump.Read(bytes.NewReader(n.get(t, "/v1/dump")))
	if err != nil {
		t.Fatal(err)
	}
	file, err := Recall(d, all.Features)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/problems", "/v1/pods", "/v1/nodes", "/v1/render", "/v1/snat", "/v1/nodeportlocal"} {
		if _, err := file.Answer(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if found := file.examine().Findings; len(found) != 1 || found[0].Status != doctor.Fail {
		t.Errorf("%+v", found)
	}
}

// Somebody who changed a file gets a sentence.
func TestAFileThatMakesNoSense(t *testing.T) {
	t.Parallel()
	w := &world.World{Node: &world.Node{Name: "n1"}, Config: &world.Config{}}
	breaks := func(*world.World) *feature.Result { panic("index out of range") }
	_, err := Recall(dump.Dump{World: w}, []feature.Feature{{Name: "breaks", Render: func() feature.Render { return breaks }}})
	if err == nil || err.Error() != "no node can be so: index out of range" {
		t.Error(err)
	}
	if _, err := Recall(dump.Dump{}, nil); err == nil || !strings.Contains(err.Error(), "it has no world") {
		t.Error(err)
	}
}
