// Package dir reads objects from a directory of manifests: the embedded source,
// for one machine, a lab, or an edge box without an API server.
//
// Every file whose name ends in .yaml, .yml or .json is read. A file called
// revision, if there is one, numbers the directory's states; its writer writes
// objects first and the revision last.
package dir

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

// revisionFile numbers the states of a directory.
const revisionFile = "revision"

// A Dir is a directory of manifests. It remembers every file it has read, so
// that objects in files that did not change keep their pointers.
type Dir struct {
	path   string
	files  map[string]*file
	states int64 // how many different states were read
	last   *source.Objects

	watched atomic.Pointer[os.FileInfo] // the directory whose changes are announced, if one is
	stale   atomic.Bool                 // there may have been one since last was read
	lastAt  time.Time
}

const (
	watchAgain = time.Second // how soon a directory in the place of the watched one is watched
	lookAgain  = time.Minute // how long last is believed: not every file system announces changes
)

// file is what was read of one file.
type file struct {
	content  []byte
	objects  []object
	problems []world.Problem
}

// object is one decoded document.
type object struct {
	document manifest.Document
	value    any
}

// New returns the source in the directory, or in the single file, at path.
func New(path string) *Dir { return &Dir{path: path, files: map[string]*file{}} }

// Read returns what the directory holds now. While it is watched and nothing
// was announced, that is the same value as before.
func (d *Dir) Read() (*source.Objects, error) {
	now := time.Now()
	if stale := d.stale.Swap(false); !stale && d.last != nil && now.Sub(d.lastAt) < lookAgain && d.isWatched() {
		return d.last, nil
	}
	objects, err := d.read()
	if err != nil {
		d.stale.Store(true)
		return nil, err
	}
	d.last, d.lastAt = objects, now
	return objects, nil
}

// isWatched reports whether the directory that is at the path now is the one
// that is watched.
func (d *Dir) isWatched() bool {
	watched := d.watched.Load()
	if watched == nil {
		return false
	}
	there, err := os.Stat(d.path)
	return err == nil && os.SameFile(*watched, there)
}

func (d *Dir) read() (*source.Objects, error) {
	revision, numbered := d.revision()
	out := &source.Objects{Revision: revision, Files: map[string]string{}}
	paths, err := d.list()
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	files := make(map[string]*file, len(paths))
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("read objects: %w", err)
		}
		f := d.files[path]
		if f == nil || !bytes.Equal(f.content, content) {
			f = parse(path, content)
		}
		files[path] = f
		out.Problems = append(out.Problems, f.problems...)
		for _, o := range f.objects {
			collect(out, o)
		}
	}
	if !maps.Equal(d.files, files) {
		d.states++
	}
	d.files = files
	if !numbered {
		out.Revision = d.states
	}
	return out, nil
}

// revision is read before the objects are, so that they are at least as new.
func (d *Dir) revision() (n int64, numbered bool) {
	b, err := os.ReadFile(filepath.Join(d.path, revisionFile))
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

func (d *Dir) list() ([]string, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{d.path}, nil
	}
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) && !e.IsDir() {
			out = append(out, filepath.Join(d.path, e.Name()))
		}
	}
	return out, nil
}

func parse(path string, content []byte) *file {
	f := &file{content: content}
	docs, problems := manifest.Parse(path, content)
	f.problems = problems
	for _, doc := range docs {
		value, problems := decode(doc)
		f.problems = append(f.problems, problems...)
		if value != nil {
			f.objects = append(f.objects, object{doc, value})
		}
	}
	return f
}

// kinds are those that mean something here, or that may stand in a directory
// beside those.
var kinds = map[string]func() any{
	"v1 Node":                            func() any { return &corev1.Node{} },
	"v1 Pod":                             func() any { return &corev1.Pod{} },
	"v1 Namespace":                       func() any { return &corev1.Namespace{} },
	"v1 Service":                         func() any { return &corev1.Service{} },
	v1alpha1.APIVersion + " AgentConfig": func() any { return &v1alpha1.AgentConfig{} },
}

// decode returns the object of a document, and what is wrong with it. One
// whose fields have the wrong type is no object.
func decode(doc manifest.Document) (any, []world.Problem) {
	make, ok := kinds[doc.APIVersion+" "+doc.Kind]
	if !ok {
		return nil, []world.Problem{{
			Object: doc.Object(), Source: doc.Source, Field: "kind",
			Reason: fmt.Sprintf("%s %s is not known here", doc.APIVersion, doc.Kind), Hint: "known are " + knownKinds(),
		}}
	}
	if doc.Name == "" {
		return nil, []world.Problem{{Object: doc.Object(), Source: doc.Source, Field: "metadata.name", Reason: "is missing", Hint: "name the object"}}
	}
	value := make()
	return value, doc.Decode(value)
}

func knownKinds() string {
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// collect adds o to out. The first of two with one name counts.
func collect(out *source.Objects, o object) {
	name := o.document.Object()
	if first, twice := out.Files[name]; twice {
		out.Problems = append(out.Problems, world.Problem{
			Object: name, Source: o.document.Source, Reason: "is there twice; the one in " + first + " counts", Hint: "remove one of them",
		})
		return
	}
	out.Files[name] = o.document.Source
	switch v := o.value.(type) {
	case *corev1.Node:
		out.Nodes = append(out.Nodes, v)
	case *corev1.Pod:
		out.Pods = append(out.Pods, v)
	case *v1alpha1.AgentConfig:
		out.Configs = append(out.Configs, v)
	}
}

// Watch calls changed whenever something in the directory may have changed,
// until ctx is done.
func (d *Dir) Watch(ctx context.Context, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch objects: %w", err)
	}
	defer w.Close()
	if err := d.watch(w); err != nil {
		return fmt.Errorf("watch objects: %w", err)
	}
	defer d.watched.Store(nil)
	announce := func() {
		d.stale.Store(true)
		changed()
	}
	again := time.NewTicker(watchAgain)
	defer again.Stop()
	announce() // whatever came before the watch stood
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return fmt.Errorf("watch objects: %s ended", d.path)
			}
			if e.Name == filepath.Clean(d.path) && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
				d.watched.Store(nil) // the directory itself went
			}
			announce()
		case err := <-w.Errors: // events were lost: look again
			if err != nil {
				announce()
			}
		case <-again.C:
			if !d.isWatched() && d.watch(w) == nil {
				announce()
			}
		}
	}
}

// watch makes w watch the directory that is at the path now.
func (d *Dir) watch(w *fsnotify.Watcher) error {
	there, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	_ = w.Remove(d.path) // the one that was there before, if it still is watched
	if err := w.Add(d.path); err != nil {
		return err
	}
	d.watched.Store(&there)
	return nil
}
