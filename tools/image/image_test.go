package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var testRelease = release{Repository: "ghcr.io/fairlead/fairlead", Version: "1.2.3", Revision: "abc", Created: time.Unix(1e9, 0).UTC()}

// write writes both kinds of archive from stand-ins for the binaries.
func write(t *testing.T) (all string, one map[string]string) {
	t.Helper()
	dir := t.TempDir()
	all, one = filepath.Join(dir, "fairlead.tar"), map[string]string{}
	var images []v1.Image
	for _, p := range platforms {
		image, err := testRelease.image(p, []byte("the binary for "+p.Architecture))
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, image)
		one[p.Architecture] = filepath.Join(dir, p.Architecture+".tar")
		if err := testRelease.writeOne(one[p.Architecture], image); err != nil {
			t.Fatal(err)
		}
	}
	if err := testRelease.writeAll(all, images); err != nil {
		t.Fatal(err)
	}
	return all, one
}

func TestTheSameSourceGivesTheSameBytes(t *testing.T) {
	all, one := write(t)
	again, oneAgain := write(t)
	pairs := map[string]string{all: again}
	for arch, file := range one {
		pairs[file] = oneAgain[arch]
	}
	for a, b := range pairs {
		first, err := os.ReadFile(a)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s differs when it is written again", filepath.Base(a))
		}
	}
}

// The image holds the binary, the way to pods' namespaces, and nothing else.
func TestTheImageHoldsTheBinaryAndNothingElse(t *testing.T) {
	_, one := write(t)
	for arch, file := range one {
		image, err := tarball.ImageFromPath(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		files := mutate.Extract(image)
		defer files.Close()
		var names []string
		r := tar.NewReader(files)
		for {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, h.Name)
			if content, err := io.ReadAll(r); h.Name == "fairlead" && (string(content) != "the binary for "+arch || h.Mode != 0o755) {
				t.Errorf("%s: fairlead is %q with mode %o, %v", arch, content, h.Mode, err)
			}
			if h.Name == "var/run" && h.Linkname != "/run" {
				t.Errorf("%s: /var/run leads to %s", arch, h.Linkname)
			}
		}
		slices.Sort(names)
		if want := []string{"fairlead", "run", "var", "var/run"}; !slices.Equal(names, want) {
			t.Errorf("%s: the image holds %q, want %q", arch, names, want)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != arch || config.OS != "linux" || !slices.Equal(config.Config.Entrypoint, []string{"/fairlead"}) {
			t.Errorf("%s: %s/%s runs %q", arch, config.OS, config.Architecture, config.Config.Entrypoint)
		}
		if l := config.Config.Labels; l["org.opencontainers.image.version"] != "1.2.3" || l["org.opencontainers.image.revision"] != "abc" ||
			l["org.opencontainers.image.created"] != "2001-09-09T01:46:40Z" {
			t.Errorf("%s: labels are %v", arch, l)
		}
	}
}

// The archive of all platforms is one image by one name, and each platform's is
// the same as alone.
func TestTheArchiveOfAllHoldsEachPlatform(t *testing.T) {
	all, one := write(t)
	dir := t.TempDir()
	unpack(t, all, dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["io.containerd.image.name"] != "ghcr.io/fairlead/fairlead:1.2.3" {
		t.Fatalf("the archive names %v", top.Manifests)
	}
	inner, err := index.ImageIndex(top.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	list, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Manifests) != len(platforms) {
		t.Fatalf("%d platforms, want %d", len(list.Manifests), len(platforms))
	}
	for i, p := range platforms {
		d := list.Manifests[i]
		if d.Platform == nil || !d.Platform.Equals(p) {
			t.Errorf("platform %d is %v, want %v", i, d.Platform, p)
		}
		image, err := inner.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		alone, err := tarball.ImageFromPath(one[p.Architecture], nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := alone.ConfigName(); err != nil || a != b {
			t.Errorf("%s: %s in the archive of all, %s alone, %v", p, a, b, err)
		}
	}
}

func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
