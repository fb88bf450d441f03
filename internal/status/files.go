package status

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/sorted"
)

const (
	eventsSuffix = ".events.json"
	podsSuffix   = ".pods.jsonl" // no manifest: it may be too long for one
)

// Files writes a node's FairleadNode to one file, at once, and beside it its events
// and the annotations of its pods, a pod a line: n1.json, n1.events.json and, once
// there are some, n1.pods.jsonl. Each has one writer. A Node cannot be written there.
type Files struct {
	Nowhere
	path string
	log  *slog.Logger
	last *v1alpha1.FairleadNode // what is in the file
	pods []*Pod                 // what is in theirs, in order
}

// NewFiles returns a writer of the file at path, which ends in .json. It goes on
// where the last one ended.
func NewFiles(path string, log *slog.Logger) *Files {
	f := &Files{path: path, log: log, last: &v1alpha1.FairleadNode{}}
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, f.last) != nil {
		f.last = &v1alpha1.FairleadNode{} // it is written anew
	}
	if _, err := os.Stat(f.podsPath()); err == nil {
		f.pods = []*Pod{{}} // whatever there is is written anew
	}
	return f
}

func (f *Files) podsPath() string { return strings.TrimSuffix(f.path, ".json") + podsSuffix }

func (f *Files) events() string { return strings.TrimSuffix(f.path, ".json") + eventsSuffix }

// Report writes the file, if it says something new. Counters alone are nothing
// new: others read the file when it changes.
func (f *Files) Report(r Report) {
	f.writePods(r.Pods)
	node := r.Node.DeepCopy()
	node.Status = since(f.last.Status, node.Status)
	counters := node.Status.Counters
	node.Status.Counters = f.last.Status.Counters
	if same(node, f.last) {
		return
	}
	node.Status.Counters = counters
	if err := write(f.path, node); err != nil {
		f.log.Warn("report not written", "error", err)
		return
	}
	f.last = node
}

// writePods writes those with annotations, if some of them are new.
func (f *Files) writePods(pods sorted.List[*Pod]) {
	annotated := slices.DeleteFunc(pods.Slice(), func(p *Pod) bool { return len(p.Annotations) == 0 })
	if slices.EqualFunc(annotated, f.pods, func(p, q *Pod) bool { return p.UID == q.UID && maps.Equal(p.Annotations, q.Annotations) }) {
		return
	}
	var lines []byte
	for _, p := range annotated {
		line, err := json.Marshal(metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Annotations: p.Annotations}})
		if err != nil {
			f.log.Warn("annotations not written", "error", err)
			return
		}
		lines = append(append(lines, line...), '\n')
	}
	if err := replace.File(f.podsPath(), lines, 0o644); err != nil {
		f.log.Warn("annotations not written", "error", err)
		return
	}
	f.pods = annotated
}

// eventList is a List as an API server shows it.
type eventList struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Items      []corev1.Event `json:"items"`
}

// Events writes them all.
func (f *Files) Events(list []corev1.Event) {
	if err := write(f.events(), eventList{corev1.SchemeGroupVersion.String(), "List", list}); err != nil {
		f.log.Warn("events not written", "error", err)
	}
}

// Earlier reads the events in the file.
func (f *Files) Earlier() []corev1.Event {
	var last eventList
	b, err := os.ReadFile(f.events())
	if err == nil {
		err = json.Unmarshal(b, &last)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.log.Warn("earlier events are lost", "error", err)
		return nil
	}
	return last.Items
}

func write(path string, v any) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return replace.File(path, append(content, '\n'), 0o644)
}
