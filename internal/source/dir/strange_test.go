package dir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What is no file by any name keeps nobody waiting and spoils nothing.
func TestOnlyFilesAreRead(t *testing.T) {
	path := t.TempDir()
	write(t, path, "1.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	elsewhere := t.TempDir()
	write(t, elsewhere, "real", strings.ReplaceAll(someNode, "NAME", "b"))
	for link, to := range map[string]string{"2.yaml": filepath.Join(elsewhere, "real"), "3.yaml": elsewhere} {
		if err := os.Symlink(to, filepath.Join(path, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(path, "4.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := read(t, New(path)); len(o.Nodes) != 2 || len(o.Problems) != 0 {
		t.Errorf("%d nodes and problems %v, want 2 and none", len(o.Nodes), o.Problems)
	}
}

// Names are the object's place in sentences, files and the kernel: those that an API
// server would not have are refused here too.
func TestNamesThatAreNone(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", 254), "a/b", "a b", `"a\nb"`, `"a\e[2Jb"`, `"a%2Fb"`} {
		path := t.TempDir()
		write(t, path, "1.yaml", strings.ReplaceAll(someNode, "NAME", name))
		o := read(t, New(path))
		if len(o.Nodes) != 0 || len(o.Problems) != 1 || o.Problems[0].Field != "metadata.name" || o.Problems[0].Hint == "" {
			t.Errorf("%s: %d nodes, problems %v", name, len(o.Nodes), o.Problems)
		}
	}
	path := t.TempDir()
	write(t, path, "1.yaml", strings.ReplaceAll(someNode, "NAME", strings.Repeat("x", 253)))
	if o := read(t, New(path)); len(o.Nodes) != 1 || len(o.Problems) != 0 {
		t.Errorf("%d nodes, problems %v", len(o.Nodes), o.Problems)
	}
}

// A file that cannot be read any more is no proof that its objects are gone.
func TestWhatAFileToldOfCountsUntilItSaysOtherwise(t *testing.T) {
	a, b := strings.ReplaceAll(someNode, "NAME", "a"), strings.ReplaceAll(someNode, "NAME", "b")
	for what, tt := range map[string]struct {
		content         string
		nodes, problems int
	}{
		"empty":          {"", 2, 1},
		"no YAML":        {"{{{", 2, 2},
		"half":           {a + "---\n{{{", 2, 2},
		"a wrong type":   {a + "---\napiVersion: v1\nkind: Node\nmetadata: {name: b}\nspec: 7\n", 2, 1},
		"one taken away": {a, 1, 0},
	} {
		path := t.TempDir()
		d := New(path)
		write(t, path, "1.yaml", a+"---\n"+b)
		first := read(t, d)
		write(t, path, "1.yaml", tt.content)
		for range 2 {
			o := read(t, d)
			if len(o.Nodes) != tt.nodes || len(o.Problems) != tt.problems {
				t.Errorf("%s: %d nodes and problems %v, want %d and %d", what, len(o.Nodes), o.Problems, tt.nodes, tt.problems)
			}
		}
		write(t, path, "1.yaml", b)
		if o := read(t, d); len(first.Nodes) != 2 || len(o.Nodes) != 1 || len(o.Problems) != 0 {
			t.Errorf("%s, and corrected: %d nodes, problems %v", what, len(o.Nodes), o.Problems)
		}
	}
}
