package journal_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"fairlead.dev/fairlead/internal/journal"
)

// Whatever stands in the file, it is read or refused; and what was read of it is read
// again once it is written anew.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	j := &journal.Journal{Path: filepath.Join(dir, "journal"), Disk: journal.Local{}}
	all := []journal.Value{value("a", "one"), value("b", "two")}
	for _, changed := range [][]journal.Value{nil, {value("b", "")}, {value("c", "\\u0000 -")}} {
		if err := j.Write(changed, 0, func() []journal.Value { return all }); err != nil {
			f.Fatal(err)
		}
		text, err := os.ReadFile(j.Path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(text[:len(text)-3])
		f.Add(bytes.ReplaceAll(text, []byte("two"), []byte("tow")))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		found, err := journal.Read(bytes.NewReader(content))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := journal.WriteAll(&b, found.Values); err != nil {
			t.Fatalf("what was read is not written: %v", err)
		}
		again, err := journal.Read(&b)
		if err != nil || len(again.Lost) > 0 || again.Torn || !reflect.DeepEqual(again.Values, found.Values) {
			t.Errorf("%+v becomes %+v, %v", found.Values, again, err)
		}
	})
}
