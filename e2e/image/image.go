// Package image writes container images without a container engine: layers out
// of files of this machine, as one archive that `ctr image import` takes
// (docker-archive: manifest.json, one configuration an image, one tar a layer;
// see the image specification of Docker v1.2).
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
)

// An Entry is one file of a layer: a link, a directory, a copy of a file of this
// machine, or its content.
type Entry struct {
	Link    string
	Dir     fs.FileMode // permissions, where it is a directory
	From    string
	Content string
}

// A Layer is the files of a layer, by their paths without the leading slash.
// Directories above them come by themselves.
type Layer map[string]Entry

// An Image is layers, the lowest first, and what runs in them.
type Image struct {
	Names      []string // each with its registry and tag
	Entrypoint []string
	Cmd        []string
	Layers     []string // names of layers
}

// Write writes an archive of the images with the layers.
func Write(w io.Writer, layers map[string]Layer, images []Image) error {
	out := tar.NewWriter(w)
	digests := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		var b bytes.Buffer
		if err := layers[name].write(&b); err != nil {
			return fmt.Errorf("layer %s: %w", name, err)
		}
		digests[name] = digest(b.Bytes())
		if err := add(out, name+".tar", b.Bytes()); err != nil {
			return err
		}
	}
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	for _, image := range images {
		c := config{Architecture: runtime.GOARCH, OS: "linux", Created: "1970-01-01T00:00:00Z"}
		c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		c.Config.Entrypoint, c.Config.Cmd = image.Entrypoint, image.Cmd
		c.RootFS.Type = "layers"
		e := entry{RepoTags: image.Names}
		for _, l := range image.Layers {
			c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:"+digests[l])
			e.Layers = append(e.Layers, l+".tar")
		}
		b, err := json.Marshal(c)
		if err != nil {
			return err
		}
		e.Config = digest(b) + ".json"
		if err := add(out, e.Config, b); err != nil {
			return err
		}
		manifest = append(manifest, e)
	}
	b, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	if err := add(out, "manifest.json", b); err != nil {
		return err
	}
	return out.Close()
}

// config is an image's configuration.
type config struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Created      string `json:"created"`
	Config       struct {
		Env        []string
		Entrypoint []string `json:",omitempty"`
		Cmd        []string `json:",omitempty"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func add(out *tar.Writer, name string, content []byte) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}

// write writes the layer's tar: sorted, of user 0 and time 0, so that the same
// files are the same layer.
func (l Layer) write(w io.Writer) error {
	all := maps.Clone(l)
	for name := range l {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = Entry{Dir: 0o755}
			}
		}
	}
	out := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := all[name].write(out, name); err != nil {
			return err
		}
	}
	return out.Close()
}

func (e Entry) write(out *tar.Writer, name string) error {
	switch {
	case e.Link != "":
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: e.Link, Mode: 0o777})
	case e.Dir != 0:
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(e.Dir)})
	}
	content, mode := []byte(e.Content), int64(0o644)
	if e.From != "" {
		info, err := os.Stat(e.From)
		if err != nil {
			return err
		}
		if content, err = os.ReadFile(e.From); err != nil {
			return err
		}
		mode = int64(info.Mode().Perm())
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}
