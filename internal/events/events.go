// Package events remembers what happened on a node lately, and puts that and what is wrong
// into the log: each once, and a few a minute.
package events

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/status"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Event is an event as an API server shows it.
type Event = corev1.Event

// LogsAMinute is how many lines a minute has of events, and how many of problems.
const LogsAMinute = 30

const (
	maxEvents   = 256
	tellEvents  = time.Second             // events that come together are told together
	logAgain    = time.Minute             // an event that goes on happening
	eventsSpace = metav1.NamespaceDefault // where events of objects without a namespace go
)

// A Log remembers what happened lately. What happens again is counted, and
// neither the log nor the cluster is flooded.
type Log struct {
	// Recorded is called when something was recorded, which All has from then on; nil: nobody
	// asks.
	Recorded func()

	node string
	tell func([]Event)
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	list    []Event              // in the order of their last time
	logged  map[string]time.Time // by name: when it was last in the log
	minute  time.Time            // logs are counted since
	logs    int
	telling *time.Timer // nil while all is told
}

// New goes on where the last agent of the node ended, with its earlier events, if they
// are known. tell tells the cluster.
func New(node string, earlier []Event, tell func([]Event), log *slog.Logger) *Log {
	return &Log{node: node, tell: tell, log: log, now: time.Now, logged: map[string]time.Time{},
		list: earlier[max(0, len(earlier)-maxEvents):]}
}

// Record notes that something happened.
func (e *Log) Record(happened world.Event) {
	e.record(happened)
	if e.Recorded != nil {
		e.Recorded()
	}
}

func (e *Log) record(happened world.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	happened.Message = quote.Text(happened.Message, quote.Sentence)
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
	if e.telling == nil {
		e.telling = time.AfterFunc(tellEvents, e.Flush)
	}
}

// event is what happened in the words of the API. Its name is the same whenever
// the same happens again.
func (e *Log) event(happened world.Event, now time.Time) Event {
	object := involved(happened.Object)
	key := fnv.New64a()
	fmt.Fprintf(key, "%s\x00%s\x00%s\x00%s\x00%s", e.node, happened.Object, happened.Type, happened.Reason, happened.Subject)
	return Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: cmp.Or(object.Namespace, eventsSpace), Name: eventName(object.Name, key.Sum64())},
		InvolvedObject: object,
		Type:           string(happened.Type), Reason: happened.Reason, Message: happened.Message,
		Source:         corev1.EventSource{Component: status.Component, Host: e.node},
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now), Count: 1,
		ReportingController: status.Component, ReportingInstance: e.node,
	}
}

// eventName is a name for an event of the named object: a DNS subdomain as RFC 1123
// has them, of which the key alone tells it from others.
func eventName(object string, key uint64) string {
	const longest, ofKey = 253, len(".0123456789abcdef")
	name := []byte(strings.ToLower(object[:min(len(object), longest-ofKey)]))
	for i, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' {
			name[i] = '-'
		}
	}
	var labels []string
	for label := range strings.SplitSeq(string(name), ".") {
		if label = strings.Trim(label, "-"); label != "" {
			labels = append(labels, label)
		}
	}
	return strings.Join(append(labels, fmt.Sprintf("%016x", key)), ".")
}

// involved understands "Pod default/a" and "Node n1". A Node's UID is its name in
// events: so the kubelet has it, and kubectl describe asks for it.
func involved(object string) corev1.ObjectReference {
	kind, name, _ := strings.Cut(object, " ")
	r := corev1.ObjectReference{Kind: kind, Name: name}
	if namespace, name, ok := strings.Cut(name, "/"); ok {
		r.Namespace, r.Name = namespace, name
	}
	if kind == "Node" {
		r.APIVersion, r.UID = "v1", types.UID(name)
	}
	return r
}

// say puts an event into the log, unless it was there lately or others fill it.
func (e *Log) say(event Event, now time.Time) {
	if now.Sub(e.minute) >= time.Minute {
		e.minute, e.logs = now, 0
	}
	if last, ok := e.logged[event.Name]; ok && now.Sub(last) < logAgain || e.logs >= LogsAMinute {
		return
	}
	e.logged[event.Name], e.logs = now, e.logs+1
	level := slog.LevelInfo
	if event.Type == string(world.Warning) {
		level = slog.LevelWarn
	}
	e.log.Log(context.Background(), level, event.Message, "event", event.Reason, "count", event.Count)
}

// Flush tells what is not told yet.
func (e *Log) Flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.telling != nil {
		e.telling.Stop()
		e.telling = nil
		e.tell(slices.Clone(e.list))
	}
}

// All are the events, what happened last at the end.
func (e *Log) All() view.List[Event] {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := view.Of(slices.Clone(e.list)...)
	l.APIVersion = corev1.SchemeGroupVersion.String()
	return l
}
