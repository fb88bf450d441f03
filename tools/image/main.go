// Command image builds Fairlead's container image for every platform, without a
// container engine: the static binary in an otherwise empty image. It writes
//
//	OUT/fairlead.tar         all platforms, an OCI archive
//	OUT/fairlead-ARCH.tar    one platform, as docker load and ctr image import take it
//
// The same source gives the same bytes.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// platforms are those that the image is for.
var platforms = []v1.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64", Variant: "v8"},
}

func main() {
	out := flag.String("out", "../../bin/image", "directory of what is written")
	repository := flag.String("repository", "ghcr.io/fairlead/fairlead", "name of the image")
	version := flag.String("version", "", "version and tag; empty: the chart's appVersion")
	only := flag.String("arch", "", "build for this architecture only, and no archive of all; empty: for all")
	flag.Parse()
	if err := run(*out, *repository, *version, *only); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(out, repository, version, only string) error {
	r, err := newRelease(repository, version)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var images []v1.Image
	for _, p := range platforms {
		if only != "" && only != p.Architecture {
			continue
		}
		binary, err := r.compile(p)
		if err != nil {
			return err
		}
		image, err := r.image(p, binary)
		if err != nil {
			return err
		}
		if err := r.writeOne(filepath.Join(out, "fairlead-"+p.Architecture+".tar"), image); err != nil {
			return err
		}
		images = append(images, image)
	}
	switch {
	case len(images) == 0:
		return fmt.Errorf("-arch %s: there is no image for it", only)
	case only != "":
		return nil
	}
	return r.writeAll(filepath.Join(out, "fairlead.tar"), images)
}
