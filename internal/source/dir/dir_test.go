package dir

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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
	want := []string{"2.yaml: Node : metadata.name: is missing", "2.yaml: Node a: is defined twice; the one in 1.yaml counts",
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

// watched starts a watch of d and waits until it stands.
func watched(t *testing.T, d *Dir) (announced <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stands, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- d.Watch(ctx, func() {
			select {
			case stands <- struct{}{}:
			default:
			}
		})
	}()
	<-stands
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return stands
}

// Operators replace directories whole, and lead a link to another.
func TestReadFollowsADirectoryThatIsReplaced(t *testing.T) {
	replace := map[string]string{
		"renamed":  "mv objects old; mv next objects",
		"made new": "rm -r objects; cp -r next objects",
		"linked":   "ln -sfn next link",
	}
	for name, script := range replace {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			run := func(script string) {
				t.Helper()
				c := exec.Command("sh", "-ec", script)
				c.Dir = root
				if out, err := c.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", script, err, out)
				}
			}
			run("mkdir objects next; ln -s objects link")
			write(t, filepath.Join(root, "next"), "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
			path := filepath.Join(root, "objects")
			if name == "linked" {
				path = filepath.Join(root, "link")
			}
			d := New(path)
			announced := watched(t, d)
			expect := func(what string, nodes int) {
				t.Helper()
				patience := time.After(10 * time.Second)
				for {
					if o, err := d.Read(); err == nil && len(o.Nodes) == nodes {
						return
					}
					select {
					case <-announced:
					case <-patience:
						t.Fatalf("%s: not seen", what)
					}
				}
			}
			expect("the first directory", 0)
			run(script)
			expect("the next directory", 1)
			write(t, path, "b.yaml", strings.ReplaceAll(someNode, "NAME", "b"))
			expect("a file in it", 2)
		})
	}
}

// Not everything announces its changes: a file may be a link to another place.
func TestReadLooksAgainAfterAWhile(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "objects")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, root, "a.yaml", "")
	if err := os.Symlink("../a.yaml", filepath.Join(path, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := New(path)
		there, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		d.objects.watched.Store(&there)
		read(t, d)
		write(t, root, "a.yaml", strings.ReplaceAll(someNode, "NAME", "a"))
		time.Sleep(time.Minute)
		if o := read(t, d); len(o.Nodes) != 1 {
			t.Errorf("%d nodes after a minute, want 1", len(o.Nodes))
		}
	})
}
