package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/journal"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// value is a value of the kind k; an empty one is gone.
func value(key, text string) journal.Value {
	v := journal.Value{Kind: "k", Key: key}
	if text != "" {
		v.JSON, v.At = []byte(`"`+text+`"`), at
	}
	return v
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes a new journal of the values a to z, each with its name, and then those
// that changed.
func write(t *testing.T, n int, changed ...journal.Value) *journal.Journal {
	t.Helper()
	j := &journal.Journal{Path: filepath.Join(t.TempDir(), "journal"), Disk: journal.Local{}}
	var all []journal.Value
	for i := range n {
		all = append(all, value(string(rune('a'+i)), strings.Repeat(string(rune('a'+i)), 9)))
	}
	must(t, j.Write(nil, 0, func() []journal.Value { return all }))
	if len(changed) > 0 {
		must(t, j.Write(changed, 0, nil))
	}
	return j
}

// said is what a journal says, as KEY=TEXT.
func said(found journal.Found) string {
	var words []string
	for _, v := range found.Values {
		words = append(words, v.Key+"="+strings.Trim(string(v.JSON), `"`)[:1])
	}
	return strings.Join(words, " ")
}

func read(t *testing.T, path string) (*journal.Journal, journal.Found) {
	t.Helper()
	j, found, err := journal.Open(path, journal.Local{})
	must(t, err)
	return j, found
}

// The last line with a name counts, and values come in the order of their last lines.
func TestTheLastLineCounts(t *testing.T) {
	j := write(t, 4, value("b", "x"), value("c", ""), value("e", "y"))
	again, found := read(t, j.Path)
	if got := said(found); got != "a=a d=d b=x e=y" || len(found.Lost) != 0 || found.Torn || !again.Begun() {
		t.Errorf("%s, lost %v, torn %v", got, found.Lost, found.Torn)
	}
	if found.Values[0].At != at {
		t.Errorf("a is of %s", found.Values[0].At)
	}
	if _, _, err := journal.Open(j.Path+"-", journal.Local{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A line costs itself, whatever becomes of it.
func TestADamagedLineCostsItself(t *testing.T) {
	for what, c := range map[string]struct {
		damage func(text string) string
		want   string
		lost   []string
	}{
		"a value's byte": {func(s string) string { return strings.Replace(s, "ccccccccc", "ccccXcccc", 1) }, "a=a b=b d=d", []string{"line 4, k c: its checksum is wrong"}},
		"a key's byte":   {func(s string) string { return strings.Replace(s, "\nk c ", "\nk X ", 1) }, "a=a b=b d=d", []string{"line 4: it cannot be read"}},
		"zeroes over two lines": {func(s string) string {
			i := strings.Index(s, "\nk b")
			return s[:i+2] + strings.Repeat("\x00", 60) + s[i+62:]
		}, "a=a d=d", []string{"1 of its 4 lines are missing", "line 3: it cannot be read"}},
		"the head":         {func(s string) string { return "X" + s[1:] }, "a=a b=b c=c d=d", []string{"line 1: it cannot be read"}},
		"much in one line": {func(s string) string { return strings.Replace(s, "\nk c ", "\n"+strings.Repeat("k", 200000)+" c ", 1) }, "a=a b=b d=d", []string{"line 4: it cannot be read"}},
		"half of it":       {func(s string) string { return s[:strings.Index(s, "bbbb")] }, "a=a", []string{"3 of its 4 lines are missing"}},
		"a line between":   {func(s string) string { return strings.Replace(s, "\nk c", "\n\nk c", 1) }, "a=a b=b c=c d=d", []string{"line 4: it cannot be read"}},
	} {
		j := write(t, 4)
		text, err := os.ReadFile(j.Path)
		must(t, err)
		must(t, os.WriteFile(j.Path, []byte(c.damage(string(text))), 0o600))
		again, found := read(t, j.Path)
		var lost []string
		for _, d := range found.Lost {
			lost = append(lost, d.String())
		}
		if got := said(found); got != c.want || !slices.Equal(lost, c.lost) || again.Begun() {
			t.Errorf("%s: %s, want %s; lost %q, want %q", what, got, c.want, lost, c.lost)
		}
	}
}

// A later line makes good what was lost.
func TestALaterLineReplacesADamagedOne(t *testing.T) {
	j := write(t, 3, value("b", "x"))
	text, err := os.ReadFile(j.Path)
	must(t, err)
	must(t, os.WriteFile(j.Path, []byte(strings.Replace(string(text), "bbbb", "bXbb", 1)), 0o600))
	if _, found := read(t, j.Path); said(found) != "a=a c=c b=x" || len(found.Lost) > 0 {
		t.Errorf("%s, lost %v", said(found), found.Lost)
	}
}

// What was not written to its end was never acted upon.
func TestATornLineIsCut(t *testing.T) {
	j := write(t, 2)
	before, err := os.ReadFile(j.Path)
	must(t, err)
	must(t, j.Write([]journal.Value{value("a", "x")}, 0, nil))
	after, err := os.ReadFile(j.Path)
	must(t, err)
	for n := len(before); n < len(after); n++ {
		must(t, os.WriteFile(j.Path, after[:n], 0o600))
		again, found := read(t, j.Path)
		if said(found) != "a=a b=b" || len(found.Lost) > 0 || found.Torn != (n > len(before)) {
			t.Fatalf("of %q: %s, lost %v, torn %v", after[:n], said(found), found.Lost, found.Torn)
		}
		must(t, again.Write([]journal.Value{value("c", "c")}, 1, func() []journal.Value { return append(found.Values, value("c", "c")) }))
		if _, found := read(t, j.Path); said(found) != "a=a b=b c=c" || found.Torn {
			t.Fatalf("of %q becomes %s", after[:n], said(found))
		}
	}
}

func TestWhatIsNoJournalIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for what, content := range map[string]string{
		"nothing": "", "an object": `{"blocks":[]}` + "\n", "zeroes": strings.Repeat("\x00", 500),
	} {
		must(t, os.WriteFile(path, []byte(content), 0o600))
		if _, _, err := journal.Open(path, journal.Local{}); err == nil {
			t.Errorf("%s is read", what)
		}
	}
}

// A journal of a later release is whole, and not ours to judge.
func TestALaterVersionIsToldApart(t *testing.T) {
	_, err := journal.Read(bytes.NewReader(append(journal.AppendSum([]byte("fairlead-journal 2 0 x"), 0), '\n')))
	if !errors.Is(err, journal.ErrVersion) || err.Error() != `it is of version "2", and this release knows 1` {
		t.Error(err)
	}
}

// What changes is what is written: one of 50,000 values is one line, and over all a
// value is written three times at most.
func TestAChangeIsALine(t *testing.T) {
	const values, changes = 50_000, 120_000
	disk := &counting{}
	j := &journal.Journal{Path: filepath.Join(t.TempDir(), "journal"), Disk: disk}
	now := map[string]string{}
	all := func() (out []journal.Value) {
		for _, key := range slices.Sorted(maps.Keys(now)) {
			out = append(out, value(key, now[key]))
		}
		return out
	}
	for i := range values {
		now[fmt.Sprint(i)] = "first"
	}
	must(t, j.Write(nil, 0, all))
	whole := disk.bytes
	now["17"] = "other"
	must(t, j.Write([]journal.Value{value("17", "other")}, 0, all))
	if wrote := disk.bytes - whole; wrote > 100 || disk.syncs != 3 { // of the file, of its name, of the line
		t.Errorf("one change wrote %d bytes, with %d syncs", wrote, disk.syncs)
	}
	disk.bytes = 0
	for i := range changes / 10 {
		var changed []journal.Value
		for k := range 10 {
			key := fmt.Sprint((10*i + k) % values)
			now[key] = fmt.Sprintf("%05d", i)
			changed = append(changed, value(key, now[key]))
		}
		must(t, j.Write(changed, 0, all))
	}
	if disk.bytes > 4*changes*whole/values {
		t.Errorf("%d changes wrote %d bytes, and %d values have %d", changes, disk.bytes, values, whole)
	}
	info, err := os.Stat(j.Path)
	must(t, err)
	if info.Size() > 5*int64(whole)/2 {
		t.Errorf("the file has %d bytes, and what counts of it %d", info.Size(), whole)
	}
}

// counting is a disk that counts, and does not wait.
type counting struct {
	journal.Local
	bytes, syncs int
}

type countingFile struct {
	journal.File
	disk *counting
}

func (d *counting) Create(path string) (journal.File, error) {
	f, err := d.Local.Create(path)
	return countingFile{f, d}, err
}

func (d *counting) Append(path string) (journal.File, error) {
	f, err := d.Local.Append(path)
	return countingFile{f, d}, err
}

func (d *counting) SyncDir(string) error { d.syncs++; return nil }

func (f countingFile) Sync() error { f.disk.syncs++; return nil }

func (f countingFile) Write(b []byte) (int, error) {
	f.disk.bytes += len(b)
	return f.File.Write(b)
}

// What somebody else did to the file is noticed, and all is written anew.
func TestAFileThatOthersChangedIsWrittenAnew(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"cut":     func(path string) error { return os.Truncate(path, 40) },
	} {
		j := write(t, 2)
		must(t, change(j.Path))
		must(t, j.Write([]journal.Value{value("b", "x")}, 0, func() []journal.Value { return []journal.Value{value("a", "a"), value("b", "x")} }))
		if _, found := read(t, j.Path); said(found) != "a=a b=x" {
			t.Errorf("%s: %s", what, said(found))
		}
	}
}

func TestWhatIsNoLineIsRefused(t *testing.T) {
	for _, v := range []journal.Value{
		{Kind: "k", Key: ""}, {Kind: "k k", Key: "a"}, {Kind: "k", Key: "a\n"}, {Kind: "", Key: "a"},
		{Kind: "k", Key: "a", JSON: []byte("1\n2")}, {Kind: "k", Key: "a", JSON: make([]byte, 1<<17)},
	} {
		j := write(t, 1)
		if err := j.Write([]journal.Value{v}, 0, nil); err == nil {
			t.Errorf("%.20q %.20q is written", v.Key, v.JSON)
		}
	}
}
