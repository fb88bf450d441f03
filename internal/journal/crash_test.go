package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/journal"
)

// A crashing disk ends after some calls. Then there is what was synced, and of the rest
// what a machine without power may have got to: any beginning of what was written, and
// names as they were or as they became.
type crashing struct {
	left  int // calls
	files map[string]*crashFile
	names map[string]*crashFile // that are synced
}

type crashFile struct {
	disk    *crashing
	content []byte
	synced  int // of it
}

var errCrash = errors.New("no power")

func (d *crashing) call() error {
	if d.left == 0 {
		return errCrash
	}
	d.left--
	return nil
}

func (d *crashing) Create(path string) (journal.File, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	d.files[path] = &crashFile{disk: d}
	return d.files[path], nil
}

func (d *crashing) Append(path string) (journal.File, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	if d.files[path] == nil {
		return nil, fs.ErrNotExist
	}
	return d.files[path], nil
}

func (d *crashing) Rename(from, to string) error {
	if err := d.call(); err != nil {
		return err
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	return nil
}

func (d *crashing) SyncDir(string) error {
	if err := d.call(); err != nil {
		return err
	}
	d.names = maps.Clone(d.files)
	return nil
}

func (f *crashFile) Write(b []byte) (int, error) {
	if err := f.disk.call(); err != nil {
		f.content = append(f.content, b[:len(b)/2]...)
		return len(b) / 2, err
	}
	f.content = append(f.content, b...)
	return len(b), nil
}

func (f *crashFile) Sync() error {
	if err := f.disk.call(); err != nil {
		return err
	}
	f.synced = len(f.content)
	return nil
}

func (f *crashFile) Size() (int64, error) { return int64(len(f.content)), f.disk.call() }
func (f *crashFile) Close() error         { return nil }

// found are the contents that the file at path may have after the crash; nil: it may not
// be there.
func (d *crashing) found(path string) (out [][]byte) {
	for _, names := range []map[string]*crashFile{d.files, d.names} {
		f := names[path]
		if f == nil {
			out = append(out, nil)
			continue
		}
		for n := f.synced; n <= len(f.content); n++ {
			out = append(out, f.content[:n:n])
		}
		if lost := len(f.content) - f.synced; lost > 0 { // its length is written, and not its end
			out = append(out, append(f.content[:f.synced:f.synced], make([]byte, lost)...))
		}
	}
	return out
}

// However a machine ends, and at whatever call: what was written before the last Write
// that returned is there, each value of one that did not is as it was or as it would
// have become, and nothing is told as damaged.
func TestACrashCostsNothingThatWasWritten(t *testing.T) {
	const turns = 90 // with which the file is written anew twice
	for calls, crashed := 1, true; crashed; calls++ {
		crashed = false
		d := &crashing{left: calls, files: map[string]*crashFile{}, names: map[string]*crashFile{}}
		j := &journal.Journal{Path: "journal", Disk: d}
		done, next := map[string]string{}, map[string]string{}
		for i := 0; i < turns && !crashed; i++ {
			changed := step(next, i)
			more := len(next) - len(done)
			err := j.Write(changed, more, func() []journal.Value { return listed(next) })
			if crashed = err != nil; crashed {
				if !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				break
			}
			done = maps.Clone(next)
		}
		for n, content := range d.found(j.Path) {
			checkAfter(t, fmt.Sprintf("after %d calls, %d", calls, n), content, [2]map[string]string{done, next})
		}
	}
}

// step changes two values and takes one away now and then.
func step(now map[string]string, i int) []journal.Value {
	keys := []string{string(rune('a' + i%5)), string(rune('k' + i%3))}
	var out []journal.Value
	for n, key := range keys {
		text := fmt.Sprint(i)
		if (i+n)%4 == 3 {
			text = ""
		}
		if now[key] = text; text == "" {
			delete(now, key)
		}
		out = append(out, value(key, text))
	}
	return out
}

func listed(now map[string]string) (out []journal.Value) {
	for _, key := range slices.Sorted(maps.Keys(now)) {
		out = append(out, value(key, now[key]))
	}
	return out
}

func checkAfter(t *testing.T, when string, content []byte, may [2]map[string]string) {
	t.Helper()
	done, next := may[0], may[1]
	if content == nil {
		if len(done) > 0 {
			t.Fatalf("%s: the file is not there, and %v was written", when, done)
		}
		return
	}
	found, err := journal.Read(bytes.NewReader(content))
	if err != nil || len(found.Lost) > 0 {
		t.Fatalf("%s: %v, lost %v of\n%s", when, err, found.Lost, content)
	}
	got := map[string]string{}
	for _, v := range found.Values {
		got[v.Key] = string(v.JSON[1 : len(v.JSON)-1])
	}
	for _, key := range slices.Concat(slices.Collect(maps.Keys(done)), slices.Collect(maps.Keys(next)), slices.Collect(maps.Keys(got))) {
		if got[key] != done[key] && got[key] != next[key] {
			t.Fatalf("%s: %s is %q; it was %q and was to be %q, in\n%s", when, key, got[key], done[key], next[key], content)
		}
	}
}

// Where a call fails and the machine goes on, the next Write makes it good.
func TestAFailureIsMadeGood(t *testing.T) {
	for calls := 1; calls < 60; calls++ {
		d := &crashing{left: calls, files: map[string]*crashFile{}, names: map[string]*crashFile{}}
		j := &journal.Journal{Path: "journal", Disk: d}
		now, before := map[string]string{}, 0
		for i := range 12 {
			changed := step(now, i)
			if err := j.Write(changed, len(now)-before, func() []journal.Value { return listed(now) }); err != nil {
				d.left = 1000
				must(t, j.Write(nil, 0, func() []journal.Value { return listed(now) }))
			}
			before = len(now)
		}
		for _, content := range d.found(j.Path) {
			checkAfter(t, fmt.Sprintf("after %d calls", calls), content, [2]map[string]string{now, now})
		}
	}
}
