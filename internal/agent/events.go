package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// Event is an event as an API server shows it.
type Event = corev1.Event

const (
	maxEvents    = 256
	writeEvents  = time.Second // events that come together are written together
	logAgain     = time.Minute // an event that goes on happening
	logsAMinute  = 30          // of all events
	eventsOwner  = "fairlead-agent"
	eventsSpace  = metav1.NamespaceDefault // where events of objects without a namespace go
	eventsSuffix = ".events.json"
)

// events remembers what happened lately. What happens again is counted, and
// neither the log nor the file is flooded.
type events struct {
	node string
	file string // "": none
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	list    []Event              // in the order of their last time
	logged  map[string]time.Time // by name: when it was last in the log
	minute  time.Time            // logs are counted since
	logs    int
	writing *time.Timer // nil while the file says all
}

// newEvents goes on where the file of the last agent ends.
func newEvents(c Config) *events {
	e := &events{node: c.Node, log: c.Log, now: time.Now, logged: map[string]time.Time{}}
	if c.ReportFile == "" {
		return e
	}
	e.file = strings.TrimSuffix(c.ReportFile, ".json") + eventsSuffix
	var last List[Event]
	b, err := os.ReadFile(e.file)
	if err == nil {
		err = json.Unmarshal(b, &last)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.Log.Warn("earlier events are lost", "error", err)
		return e
	}
	e.list = last.Items[max(0, len(last.Items)-maxEvents):]
	return e
}

// record notes that something happened.
func (e *events) record(happened world.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	event := e.event(happened, now)
	if i := slices.IndexFunc(e.list, func(o Event) bool { return o.Name == event.Name }); i >= 0 {
		event.FirstTimestamp, event.Count = e.list[i].FirstTimestamp, e.list[i].Count+1
		e.list = slices.Delete(e.list, i, i+1)
	} else if len(e.list) == maxEvents {
		delete(e.logged, e.list[0].Name)
		e.list = slices.Delete(e.list, 0, 1)
	}
	e.list = append(e.list, event)
	e.say(event, now)
	if e.file != "" && e.writing == nil {
		e.writing = time.AfterFunc(writeEvents, e.flush)
	}
}

// event is what happened in the words of the API. Its name is the same whenever
// the same happens again.
func (e *events) event(happened world.Event, now time.Time) Event {
	object := involved(happened.Object)
	key := fnv.New64a()
	fmt.Fprintf(key, "%s\x00%s\x00%s\x00%s\x00%s", e.node, happened.Object, happened.Type, happened.Reason, happened.Subject)
	return Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: cmp.Or(object.Namespace, eventsSpace), Name: fmt.Sprintf("%s.%016x", object.Name, key.Sum64())},
		InvolvedObject: object,
		Type:           string(happened.Type), Reason: happened.Reason, Message: happened.Message,
		Source:         corev1.EventSource{Component: eventsOwner, Host: e.node},
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now), Count: 1,
		ReportingController: eventsOwner, ReportingInstance: e.node,
	}
}

// involved understands "Pod default/a" and "Node n1".
func involved(object string) corev1.ObjectReference {
	kind, name, _ := strings.Cut(object, " ")
	r := corev1.ObjectReference{Kind: kind, Name: name}
	if namespace, name, ok := strings.Cut(name, "/"); ok {
		r.Namespace, r.Name = namespace, name
	}
	return r
}

// say puts an event into the log, unless it was there lately or others fill it.
func (e *events) say(event Event, now time.Time) {
	if now.Sub(e.minute) >= time.Minute {
		e.minute, e.logs = now, 0
	}
	if last, ok := e.logged[event.Name]; ok && now.Sub(last) < logAgain || e.logs >= logsAMinute {
		return
	}
	e.logged[event.Name], e.logs = now, e.logs+1
	level := slog.LevelInfo
	if event.Type == string(world.Warning) {
		level = slog.LevelWarn
	}
	e.log.Log(context.Background(), level, event.Message, "event", event.Reason, "count", event.Count)
}

// flush writes the file, if it does not say all.
func (e *events) flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.writing == nil {
		return
	}
	e.writing.Stop()
	e.writing = nil
	content, err := json.MarshalIndent(e.show(), "", "  ")
	if err == nil {
		err = replace.File(e.file, append(content, '\n'), 0o644)
	}
	if err != nil {
		e.log.Warn("events not written", "error", err)
	}
}

// all are the events, what happened last at the end.
func (e *events) all() List[Event] {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.show()
}

func (e *events) show() List[Event] {
	l := list(slices.Clone(e.list))
	l.APIVersion = corev1.SchemeGroupVersion.String()
	return l
}
