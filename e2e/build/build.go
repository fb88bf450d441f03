// Package build compiles what the test cluster runs, into a cache outside the
// tree: Kubernetes, CoreDNS, containerd, and the tests' own small programs. Each
// belongs to a module of its own, so that nobody who uses Fairlead ever downloads
// a Kubernetes server.
//
// What was built is kept under a hash of what it was built from; nothing is done
// for what is there.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Program is something to compile.
type Program struct {
	Name     string
	module   string   // below e2e
	packages []string // each gives one program of its name
	test     bool     // the package's tests, as Name
	tags     string
	version  string   // the module whose version is stamped in, as upstream does
	sources  []string // directories below e2e that it depends on, besides its module's go.mod; default: all of the module
	links    []string // names by which the program is also called
}

// The programs.
var (
	Kubernetes = Program{Name: "kubernetes", module: "kubernetes", packages: []string{"."}, version: "k8s.io/kubernetes",
		links: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}}
	// Suite is upstream's e2e.test, with the specs about the network.
	Suite      = Program{Name: "e2e.test", module: "kubernetes", packages: []string{"./suite"}, test: true, version: "k8s.io/kubernetes"}
	Agnhost    = Program{Name: "agnhost", module: "kubernetes", packages: []string{"k8s.io/kubernetes/test/images/agnhost"}}
	CoreDNS    = Program{Name: "coredns", module: "coredns", packages: []string{"."}}
	Containerd = Program{Name: "containerd", module: "containerd",
		packages: []string{"github.com/containerd/containerd/v2/cmd/containerd", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/ctr"},
		tags:     "no_btrfs,no_devmapper,no_zfs,no_aufs,no_tracing,no_gateway"}
	Node  = Program{Name: "node", module: ".", packages: []string{"./cmd/node"}, sources: []string{"cmd/node", "node"}}
	Pause = Program{Name: "pause", module: ".", packages: []string{"./pause"}, sources: []string{"pause"}}
)

// All is every program, in the order in which they are best built.
var All = []Program{Node, Pause, Kubernetes, Agnhost, CoreDNS, Suite, Containerd}

// A Builder builds into a cache, and says on Log what takes time.
type Builder struct {
	Log io.Writer
	src string // the directory e2e
	dir string // the cache
}

// New finds the tree from the working directory, and the cache:
// $FAIRLEAD_E2E_CACHE, or fairlead-e2e in the user's cache directory.
func New(log io.Writer) (*Builder, error) {
	src, err := source()
	if err != nil {
		return nil, err
	}
	dir := os.Getenv("FAIRLEAD_E2E_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("set FAIRLEAD_E2E_CACHE: %w", err)
		}
		dir = filepath.Join(cache, "fairlead-e2e")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	return &Builder{Log: log, src: src, dir: dir}, os.MkdirAll(dir, 0o755)
}

// source is the directory e2e of the tree in which the working directory is.
func source() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		for _, at := range []string{dir, filepath.Join(dir, "e2e")} {
			b, err := os.ReadFile(filepath.Join(at, "go.mod"))
			if err == nil && bytes.HasPrefix(b, []byte("module fairlead.dev/fairlead/e2e\n")) {
				return at, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is not in Fairlead's source tree, whose directory e2e has the cluster's modules")
		}
	}
}

// Program compiles p, unless that was done, and returns the directory that holds
// it, under its name and its links'.
func (b *Builder) Program(ctx context.Context, p Program) (string, error) {
	env := append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	key, err := b.key(ctx, p)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	return b.Once(ctx, p.Name, key, func(dir string) error {
		for _, pkg := range p.packages {
			if err := b.compile(ctx, p, env, []string{"-o", filepath.Join(dir, p.output(pkg)), pkg}); err != nil {
				return fmt.Errorf("build %s: %w", p.Name, err)
			}
		}
		for _, l := range p.links {
			if err := os.Symlink(p.Name, filepath.Join(dir, l)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p Program) output(pkg string) string {
	if len(p.packages) == 1 {
		return p.Name
	}
	return filepath.Base(pkg)
}

// Once makes the directory NAME-KEY of the cache with make, unless it is there.
// Builders of the same name in other processes wait.
func (b *Builder) Once(ctx context.Context, name, key string, make func(dir string) error) (string, error) {
	dir := filepath.Join(b.dir, name+"-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	lock, err := os.OpenFile(filepath.Join(b.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := b.lock(ctx, lock); err != nil {
		return "", fmt.Errorf("%s: another builder is at work: %w", name, err)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	begin, unfinished := time.Now(), dir+".unfinished"
	if err := errors.Join(os.RemoveAll(unfinished), os.Mkdir(unfinished, 0o755)); err != nil {
		return "", err
	}
	fmt.Fprintf(b.Log, "        %s: not in the cache, making it\n", name)
	if err := make(unfinished); err != nil {
		return "", errors.Join(err, os.RemoveAll(unfinished))
	}
	fmt.Fprintf(b.Log, "        %s: made in %s\n", name, time.Since(begin).Round(time.Second/10))
	b.forget(name)
	return dir, os.Rename(unfinished, dir)
}

// kept is how long what nobody asks for any more stays in the cache: another
// branch may have built it.
const kept = 14 * 24 * time.Hour

// forget removes what was made under the same name long ago.
func (b *Builder) forget(name string) {
	old, _ := filepath.Glob(filepath.Join(b.dir, name+"-*"))
	for _, dir := range old {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > kept && keyed.MatchString(strings.TrimPrefix(dir, b.dir+"/"+name+"-")) {
			_ = os.RemoveAll(dir) // a cache: what stays costs space only
		}
	}
}

var keyed = regexp.MustCompile(`^[0-9a-f]{12}$`)

// Key is a name for a cache entry that was made from all of the parts.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d %s\n", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// key hashes what p is built from: its sources, the versions of all modules, the
// flags and the compiler.
func (b *Builder) key(ctx context.Context, p Program) (string, error) {
	version, err := golang(ctx, filepath.Join(b.src, p.module), "env", "GOVERSION", "GOARCH", "GOFLAGS")
	if err != nil {
		return "", err
	}
	parts := []string{string(version), fmt.Sprint(p)}
	dirs := p.sources
	if dirs == nil {
		dirs = []string{p.module}
	}
	var files []string
	for _, d := range dirs {
		err := filepath.WalkDir(filepath.Join(b.src, d), func(path string, _ fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".go") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(files)
	for _, f := range append(files, filepath.Join(b.src, p.module, "go.mod"), filepath.Join(b.src, p.module, "go.sum")) {
		content, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		parts = append(parts, strings.TrimPrefix(f, b.src), string(content))
	}
	return Key(parts...), nil
}
