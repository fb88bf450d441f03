package enter

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A hierarchy is one line of /proc/PID/cgroup (cgroups(7)), and where it is mounted.
type hierarchy struct{ controllers, mount, path string }

func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []hierarchy
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		h := hierarchy{controllers: fields[1], path: fields[2]}
		switch name, named := strings.CutPrefix(h.controllers, "name="); {
		case h.controllers == "" && exists("/sys/fs/cgroup/unified"):
			h.mount = "/sys/fs/cgroup/unified"
		case h.controllers == "":
			h.mount = "/sys/fs/cgroup"
		case named:
			h.mount = filepath.Join("/sys/fs/cgroup", name)
		default:
			h.mount = filepath.Join("/sys/fs/cgroup", h.controllers)
		}
		if exists(filepath.Join(h.mount, h.path)) {
			out = append(out, h)
		}
	}
	return out, nil
}

// MakeCgroups makes a cgroup called name below the caller's own, in every
// hierarchy, and returns their directories.
func MakeCgroups(name string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range all {
		parent := filepath.Join(h.mount, h.path)
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return dirs, err
		}
		dirs = append(dirs, dir)
		if h.controllers != "cpuset" {
			continue
		}
		// A cpuset of version 1 begins empty, and nobody can join it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			b, err := os.ReadFile(filepath.Join(parent, file))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), b, 0)
			}
			if err != nil {
				return dirs, err
			}
		}
	}
	return dirs, nil
}

// cgroupPatience is how long dying processes may keep a cgroup.
const cgroupPatience = 10 * time.Second

// RemoveCgroups removes the cgroups in dirs with all below them. Their processes
// must be dead; the kernel may need a moment to notice.
func RemoveCgroups(dirs []string) error {
	deadline := time.Now().Add(cgroupPatience)
	for _, dir := range dirs {
		for {
			err := removeTree(dir)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("remove cgroup, for %s: %w", cgroupPatience, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// removeTree removes directories, the deepest first; a cgroup's files go with it.
func removeTree(dir string) error {
	var below []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			below = append(below, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, d := range slices.Backward(below) {
		if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "rmdir", Path: d, Err: err}
		}
	}
	return nil
}
