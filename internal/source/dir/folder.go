package dir

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"

	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

// revisionFile numbers the states of a directory.
const revisionFile = "revision"

// A folder is one directory, or a single file, as it was last read.
type folder struct {
	path string
	only string // the kind of objects that counts; "": all

	watched atomic.Pointer[os.FileInfo] // the directory whose changes are announced, if one is
	stale   atomic.Bool                 // there may have been one since it was read

	mu       sync.Mutex // guards what is below
	files    map[string]file
	revision int64
	states   int64 // how many different states were read
	readAt   time.Time
}

// file is what was read of one file.
type file struct {
	content []byte
	*said
}

// said is what a file says. It stays the same value while the file says the same,
// whatever else is written into it.
type said struct {
	objects  []object
	problems []world.Problem
}

// object is one decoded document.
type object struct {
	document manifest.Document
	value    any
}

// refresh reads the folder, unless it is watched and nothing was announced, and
// reports whether anything is new.
func (f *folder) refresh() (news bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if stale := f.stale.Swap(false); !stale && f.files != nil && now.Sub(f.readAt) < lookAgain && f.isWatched() {
		return false, nil
	}
	news, err = f.read()
	if err != nil {
		f.stale.Store(true)
		return false, err
	}
	f.readAt = now
	return news, nil
}

// isWatched reports whether the directory that is at the path now is the one
// that is watched.
func (f *folder) isWatched() bool {
	watched := f.watched.Load()
	if watched == nil {
		return false
	}
	there, err := os.Stat(f.path)
	return err == nil && os.SameFile(*watched, there)
}

func (f *folder) read() (news bool, err error) {
	revision, numbered := f.numbered()
	paths, err := f.list()
	if err != nil {
		return false, err
	}
	files := make(map[string]file, len(paths))
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue // removed since it was listed
		}
		if err != nil {
			return false, err
		}
		last := f.files[path]
		files[path] = f.parse(path, content, last)
		news = news || files[path].said != last.said
	}
	if news = news || f.files == nil || len(files) != len(f.files); news {
		f.states++
	}
	if !numbered {
		revision = f.states
	}
	news = news || revision != f.revision
	f.files, f.revision = files, revision
	return news, nil
}

// numbered is read before the objects are, so that they are at least as new.
func (f *folder) numbered() (n int64, ok bool) {
	b, err := os.ReadFile(filepath.Join(f.path, revisionFile))
	if err != nil {
		return 0, false
	}
	n, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

func (f *folder) list() ([]string, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{f.path}, nil
	}
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		path := filepath.Join(f.path, e.Name())
		if isManifest(e.Name()) && isFile(path) {
			out = append(out, path)
		}
	}
	return out, nil
}

// isFile reports whether there is a file at path, or a link to one, that can be
// read to its end: a directory cannot, and a pipe may keep its reader waiting.
func isFile(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular() // an error is for the reader to tell
}

func isManifest(name string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

// inOrder are the files by name.
func (f *folder) inOrder() []file {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.files {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]file, len(names))
	for i, name := range names {
		out[i] = f.files[name]
	}
	return out
}

// parse reads a file that was read before as last.
func (f *folder) parse(path string, content []byte, last file) file {
	if last.said != nil && bytes.Equal(last.content, content) {
		return last
	}
	out := &said{}
	docs, problems := manifest.Parse(path, content)
	out.problems = problems
	for _, doc := range docs {
		if f.only != "" && doc.Kind != f.only {
			continue
		}
		value, problems := decode(doc)
		out.problems = append(out.problems, problems...)
		if value != nil {
			out.objects = append(out.objects, object{doc, value})
		}
	}
	if last.said != nil && (len(problems) > 0 || len(docs) == 0) {
		out.keep(path, last.said)
	}
	if last.said != nil && last.equal(out) {
		out = last.said
	}
	return file{content, out}
}

// keep keeps the objects of before that s lacks: a file that cannot be read to its
// end, or is empty, is no proof that they are gone.
func (s *said) keep(path string, before *said) {
	there := map[string]bool{}
	for _, o := range s.objects {
		there[o.document.Object()] = true
	}
	kept := 0
	for _, o := range before.objects {
		if name := o.document.Object(); !there[name] {
			s.objects = append(s.objects, o)
			kept++
		}
	}
	if kept > 0 {
		s.problems = append(s.problems, world.Problem{Object: "file " + filepath.Base(path), Source: path,
			Reason: fmt.Sprintf("%d of its objects cannot be read any more, and count as they were", kept), Hint: "correct the file, or remove it"})
	}
}

func (s *said) equal(t *said) bool {
	return slices.Equal(s.problems, t.problems) && slices.EqualFunc(s.objects, t.objects, func(a, b object) bool {
		return a.document.Object() == b.document.Object() && reflect.DeepEqual(a.value, b.value)
	})
}

// watch calls changed whenever something in the folder may have changed, until
// ctx is done.
func (f *folder) watch(ctx context.Context, changed func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	defer w.Close()
	if err := f.begin(w); err != nil {
		return fmt.Errorf("watch %s: %w", f.path, err)
	}
	defer f.watched.Store(nil)
	announce := func() {
		f.stale.Store(true)
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
				return fmt.Errorf("watch %s: it ended", f.path)
			}
			if e.Name == filepath.Clean(f.path) && (e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)) {
				f.watched.Store(nil) // the directory itself went
			}
			if f.matters(e.Name) {
				announce()
			}
		case err := <-w.Errors: // events were lost: look again
			if err != nil {
				announce()
			}
		case <-again.C:
			if !f.isWatched() && f.begin(w) == nil {
				announce()
			}
		}
	}
}

// matters reports whether a change of the file at path may be news. Reports are
// written all the time, and mostly say nothing that concerns others.
func (f *folder) matters(path string) bool {
	if f.only == "" || path == filepath.Clean(f.path) || filepath.Base(path) == EgressStatus {
		return true
	}
	f.mu.Lock()
	last := f.files[path]
	f.mu.Unlock()
	content, err := os.ReadFile(path)
	if err != nil || last.said == nil {
		return isManifest(path)
	}
	return f.parse(path, content, last).said != last.said
}

// begin makes w watch the directory that is at the path now.
func (f *folder) begin(w *fsnotify.Watcher) error {
	there, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	_ = w.Remove(f.path) // the one that was there before, if it still is watched
	if err := w.Add(f.path); err != nil {
		return err
	}
	f.watched.Store(&there)
	return nil
}
