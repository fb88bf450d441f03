package replace_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"fairlead.dev/fairlead/internal/replace"
)

func TestReadersSeeTheOldContentOrTheNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	contents := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<15)}
	if err := replace.File(path, contents[0], 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		var err error
		for i := range 50 {
			err = errors.Join(err, replace.File(path, contents[i%2], 0o644))
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Fatalf("%d bytes that nobody wrote, %v", len(got), err)
		}
	}
}

func TestAFailureLeavesWhatWasThereAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "directory")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := replace.File(path, []byte("new"), 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v is left, %v", entries, err)
	}
}

func TestAFileHasTheModeThatIsAskedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := replace.File(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace.File(path, []byte("new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
