package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
)

// read returns the files of a tar, and the mode of every entry.
func read(t *testing.T, archive []byte) (files map[string][]byte, modes map[string]int64) {
	t.Helper()
	files, modes = map[string][]byte{}, map[string]int64{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name], modes[h.Name] = content, h.Mode
	}
}

func TestAnArchiveHasWhatItsManifestNames(t *testing.T) {
	layers := map[string]Layer{"a": {"usr/bin/x": {Content: "x"}, "tmp": {Dir: 0o1777}, "bin": {Link: "usr/bin"}}}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := Write(out, layers, []Image{{Names: []string{"example.test/x:1"}, Entrypoint: []string{"/usr/bin/x"}, Layers: []string{"a"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same files gave two archives")
	}
	files, _ := read(t, first.Bytes())
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	var c config
	if err := json.Unmarshal(files[manifest[0].Config], &c); err != nil {
		t.Fatal(err)
	}
	layer := files[manifest[0].Layers[0]]
	if want := []string{"sha256:" + digest(layer)}; !slices.Equal(c.RootFS.DiffIDs, want) {
		t.Errorf("the configuration names the layers %v, not %v", c.RootFS.DiffIDs, want)
	}
	_, modes := read(t, layer)
	want := map[string]int64{"bin": 0o777, "tmp/": 0o1777, "usr/": 0o755, "usr/bin/": 0o755, "usr/bin/x": 0o644}
	if !maps.Equal(modes, want) {
		t.Errorf("the layer has %v, not %v", modes, want)
	}
}
