package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// root is the project's, as seen from this module's directory.
const root = "../.."

// A release is what an image says of itself.
type release struct {
	Repository string
	Version    string
	Revision   string    // the commit; "" outside a repository
	Created    time.Time // the commit's time: the same source gives the same image
}

var appVersion = regexp.MustCompile(`(?m)^appVersion: "?([^"\s]+)"?$`)

// newRelease reads what is not given: the version from the chart, which asks for
// the image by it, and the rest from the repository.
func newRelease(repository, version string) (release, error) {
	r := release{Repository: repository, Version: version, Created: time.Unix(0, 0).UTC()}
	if version == "" {
		chart, err := os.ReadFile(filepath.Join(root, "deploy/charts/fairlead/Chart.yaml"))
		if err != nil {
			return r, err
		}
		found := appVersion.FindSubmatch(chart)
		if found == nil {
			return r, fmt.Errorf("the chart has no appVersion: give -version")
		}
		r.Version = string(found[1])
	}
	log, err := exec.Command("git", "-C", root, "log", "-1", "--format=%H %ct").Output()
	if err != nil {
		return r, nil // a copy of the source without its history
	}
	revision, seconds, _ := strings.Cut(strings.TrimSpace(string(log)), " ")
	created, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return r, fmt.Errorf("git log answers %q: %w", log, err)
	}
	r.Revision, r.Created = revision, time.Unix(created, 0).UTC()
	return r, nil
}

// compile builds the static binary for one platform.
func (r release) compile(p v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "fairlead-image-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary one
	file := filepath.Join(dir, "fairlead")
	build := exec.Command(cmp.Or(os.Getenv("GO"), "go"), "build", "-C", root, "-trimpath",
		"-ldflags", "-s -w -X fairlead.dev/fairlead/internal/cli.Version="+r.Version, "-o", file, "./cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build for %s: %w", p, err)
	}
	return os.ReadFile(file)
}
