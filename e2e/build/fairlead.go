package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// A Release is Fairlead as it is installed: an image, and the chart's manifests,
// which ask for it.
type Release struct {
	Image     string // archive
	Manifests string // file
}

// Fairlead builds the image and renders the chart of a source tree, "" for the
// one in which the working directory is. The version is the image's tag, "" for
// the chart's own; values are the chart's, each NAME=VALUE.
func (b *Builder) Fairlead(ctx context.Context, tree, version string, values ...string) (Release, error) {
	if tree == "" {
		tree = filepath.Dir(b.src)
	}
	dir, err := os.MkdirTemp(b.dir, "fairlead.")
	if err != nil {
		return Release{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a cache: what stays costs space only
	args := []string{"-arch", runtime.GOARCH, "-out", dir}
	if version != "" {
		args = append(args, "-version", version)
		values = append(values, "image.tag="+version)
	}
	if _, err := golang(ctx, filepath.Join(tree, "tools/image"), append([]string{"run", "-trimpath", "."}, args...)...); err != nil {
		return Release{}, fmt.Errorf("build the image: %w", err)
	}
	image := filepath.Join(dir, "fairlead-"+runtime.GOARCH+".tar")
	args = []string{"run", "-trimpath", "."} // as all is compiled here, or it would be compiled once more
	for _, v := range append([]string{"createNamespace=true"}, values...) {
		args = append(args, "-set", v)
	}
	manifests, err := golang(ctx, filepath.Join(tree, "tools/chart"), args...)
	if err != nil {
		return Release{}, fmt.Errorf("render the chart: %w", err)
	}
	content, err := os.ReadFile(image)
	if err != nil {
		return Release{}, err
	}
	sum := sha256.Sum256(append(content, manifests...))
	kept, err := b.Once(ctx, "fairlead", hex.EncodeToString(sum[:])[:12], func(to string) error {
		return errors.Join(os.Rename(image, filepath.Join(to, "image.tar")), os.WriteFile(filepath.Join(to, "fairlead.yaml"), manifests, 0o644))
	})
	return Release{Image: filepath.Join(kept, "image.tar"), Manifests: filepath.Join(kept, "fairlead.yaml")}, err
}
