package dir

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/source"
)

const someNode = "apiVersion: v1\nkind: Node\nmetadata: {name: NAME}\nspec: {podCIDR: 10.244.1.0/24}\n"

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, d *Dir) *source.Objects {
	t.Helper()
	o, err := d.Read()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What did not change keeps its pointer, so that nobody parses it again.
func TestUnchangedObjectsKeepTheirIdentity(t *testing.T) {
	path := t.TempDir()
	write(t, path, "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	write(t, path, "b.json", `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b"}}`)
	write(t, path, "c.txt", "nothing of ours")
	d := New(path)
	first := read(t, d)
	if len(first.Nodes) != 2 || len(first.Problems) != 0 {
		t.Fatalf("%d nodes, %v", len(first.Nodes), first.Problems)
	}
	if again := read(t, d); again.Revision != first.Revision || !slices.Equal(again.Nodes, first.Nodes) {
		t.Error("read again without a change, something changed")
	}
	write(t, path, "b.json", `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "b", "labels": {"x": "y"}}}`)
	second := read(t, d)
	if second.Revision <= first.Revision || second.Nodes[0] != first.Nodes[0] || second.Nodes[1] == first.Nodes[1] {
		t.Errorf("revision %d after %d; the unchanged one is the same: %v; the changed one is another: %v",
			second.Revision, first.Revision, second.Nodes[0] == first.Nodes[0], second.Nodes[1] != first.Nodes[1])
	}
	if err := os.Remove(filepath.Join(path, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if third := read(t, d); len(third.Nodes) != 1 || third.Nodes[0] != second.Nodes[1] || third.Revision <= second.Revision {
		t.Errorf("after a file went: %d nodes, revision %d after %d", len(third.Nodes), third.Revision, second.Revision)
	}
}

func TestMistakesInFilesAreTold(t *testing.T) {
	path := t.TempDir()
	write(t, path, "1.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	write(t, path, "2.yaml", strings.ReplaceAll(someNode, "NAME", "a")+"---\nkind: [\n---\napiVersion: v1\nkind: Node\n---\napiVersion: v2\nkind: Wish\nmetadata: {name: x}\n")
	o := read(t, New(path))
	var got []string
	for _, p := range o.Problems {
		got = append(got, strings.ReplaceAll(p.String(), path+"/", ""))
	}
	slices.Sort(got)
	want := []string{"2.yaml: Node : metadata.name: is missing", "2.yaml: Node a: is there twice; the one in 1.yaml counts",
		"2.yaml: Wish x: kind: v2 Wish is not known here", "2.yaml: document 2: is not YAML"}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !strings.HasPrefix(got[i], want[i]) {
			t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if len(o.Nodes) != 1 {
		t.Errorf("%d nodes, want 1", len(o.Nodes))
	}
}

// A revision that is written counts in the place of one that is counted.
func TestRevisionIsThatOfTheWriter(t *testing.T) {
	path := t.TempDir()
	write(t, path, "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
	write(t, path, revisionFile, "41\n")
	if got := read(t, New(path)).Revision; got != 41 {
		t.Errorf("revision %d, want 41", got)
	}
}

func TestWatchTellsOfEveryChange(t *testing.T) {
	path := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	changed := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() { ended <- New(path).Watch(ctx, func() { changed <- struct{}{} }) }()
	await := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s: not told", what)
		}
		for len(changed) > 0 {
			<-changed
		}
	}
	await("what was there before")
	write(t, path, "a.yaml", "")
	await("a new file")
	if err := os.Remove(filepath.Join(path, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	await("a file that went")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the watch ended with %v", err)
	}
}
