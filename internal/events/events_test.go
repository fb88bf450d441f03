package events

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/world"
)

// eventsIn remembers the events of a node whose reports are in dir.
func eventsIn(dir string) (*Log, *bytes.Buffer) {
	buffer := &bytes.Buffer{}
	log := slog.New(slog.NewTextHandler(buffer, nil))
	files := status.NewFiles(filepath.Join(dir, "n1.json"), log)
	return New("n1", files.Earlier(), files.Events, log), buffer
}

func scarce(subject string) world.Event {
	return world.Event{Object: "Node n1", Type: world.Warning, Reason: "Scarce", Message: "there is little left", Subject: subject}
}

func TestEventsThatHappenAgainAreCounted(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e, log := eventsIn(dir)
		began := time.Now()
		for range 3 {
			e.Record(scarce("a"))
			time.Sleep(10 * time.Second)
		}
		e.Record(scarce("b"))
		e.Record(world.Event{Object: "Pod default/p", Type: world.Normal, Reason: "Moved", Message: "it moved"})
		time.Sleep(2 * tellEvents)
		items := e.All().Items
		if len(items) != 3 {
			t.Fatalf("%d events, want 3: %v", len(items), items)
		}
		a, p := items[0], items[2]
		if a.Count != 3 || !a.FirstTimestamp.Time.Equal(began) || a.LastTimestamp.Sub(began) != 20*time.Second {
			t.Errorf("counted %d from %s to %s", a.Count, a.FirstTimestamp, a.LastTimestamp)
		}
		if a.InvolvedObject.Kind != "Node" || a.InvolvedObject.Name != "n1" || a.Namespace != "default" || a.Source.Host != "n1" || a.Type != "Warning" {
			t.Errorf("%+v", a)
		}
		if p.InvolvedObject.Namespace != "default" || p.InvolvedObject.Name != "p" || p.Reason != "Moved" {
			t.Errorf("%+v", p)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 3 {
			t.Errorf("%d lines in the log, want one an event:\n%s", lines, log)
		}
		again, _ := eventsIn(dir)
		again.Record(scarce("a"))
		if items := again.All().Items; len(items) != 3 || items[2].Name != a.Name || items[2].Count != 4 {
			t.Errorf("the next agent goes on with %v", items)
		}
		again.Flush()
	})
}

func TestEventsAreFew(t *testing.T) {
	dir := t.TempDir()
	e, log := eventsIn(dir)
	for i := range 10 * maxEvents {
		e.Record(scarce(fmt.Sprint(i)))
	}
	if n := len(e.All().Items); n != maxEvents || len(e.logged) > maxEvents {
		t.Errorf("%d events and %d names are kept, want %d", n, len(e.logged), maxEvents)
	}
	if lines := strings.Count(log.String(), "\n"); lines != LogsAMinute {
		t.Errorf("%d lines in the log, want %d", lines, LogsAMinute)
	}
	e.Flush()
	b, err := os.ReadFile(filepath.Join(dir, "n1.events.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		APIVersion, Kind string
		Items            []struct{ Reason string }
	}
	if err := json.Unmarshal(b, &list); err != nil || list.APIVersion != "v1" || list.Kind != "List" || len(list.Items) != maxEvents {
		t.Errorf("the file is %.200s… %v", b, err)
	}
}

func TestEventsOutliveABrokenFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "n1.events.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, log := eventsIn(dir)
	again.Record(scarce("a"))
	again.Flush()
	if !strings.Contains(log.String(), "earlier events are lost") || len(again.All().Items) != 1 {
		t.Errorf("%s %v", log, again.All())
	}
}

// An event's name is one that an API server takes, whatever its object is called.
func TestEventsHaveNamesThatAreNames(t *testing.T) {
	e, _ := eventsIn(t.TempDir())
	seen := map[string]string{}
	for _, object := range []string{
		"Pod default/a", "Node n1", "Pod default/" + strings.Repeat("x", 253), "Pod default/" + strings.Repeat("x", 252) + "y",
		"Node " + strings.Repeat("a.", 126) + "a", "Node My_Node", "Node n1.", "Node -", "Node a..b", "Node .-.", "Node a b", "Node \u00e4\xff", "Node ",
	} {
		name := e.event(world.Event{Object: object, Type: world.Warning, Reason: "Scarce"}, time.Now()).Name
		if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
			t.Errorf("%q: %q: %v", object, name, wrong)
		}
		if other, there := seen[name]; there {
			t.Errorf("%q and %q have the name %s", object, other, name)
		}
		seen[name] = object
	}
	if name := e.event(scarce(""), time.Now()).Name; !strings.HasPrefix(name, "n1.") {
		t.Errorf("a name that is one is %s", name)
	}
}
