package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Boot makes the calling process's own namespaces a node. The process is the
// first of its process namespace.
func Boot(s Spec) error {
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	root := filepath.Join(s.Memory, "root")
	for _, step := range []func(Spec, string) error{overlay, disk, kernel, cgroups, pivot} {
		if err := step(s, root); err != nil {
			return err
		}
	}
	if err := pinned(s.Pinned); err != nil {
		return err
	}
	return files(s)
}

// overlay mounts the machine's root under the node's memory, copy-on-write. A
// tmpfs takes what is written, because a directory of the machine's root cannot.
func overlay(s Spec, root string) error {
	if err := bind("", "/", unix.MS_REC|unix.MS_PRIVATE); err != nil {
		return err
	}
	if err := mount("tmpfs", s.Memory, "mode=0755"); err != nil {
		return err
	}
	upper, work := filepath.Join(s.Memory, "upper"), filepath.Join(s.Memory, "work")
	if err := mkdirs(upper, work, root); err != nil {
		return err
	}
	return mount("overlay", root, fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work))
}

// disk binds what a reboot keeps, and the programs of the cluster.
func disk(s Spec, root string) error {
	for _, path := range s.Kept {
		from, to := filepath.Join(s.Disk, path), filepath.Join(root, path)
		if err := mkdirs(from, to); err != nil {
			return err
		}
		if err := bind(from, to, unix.MS_BIND); err != nil {
			return err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(s.Binds)) {
		to := filepath.Join(root, path)
		if err := mkdirs(to); err != nil {
			return err
		}
		if err := bind(s.Binds[path], to, unix.MS_BIND); err != nil {
			return err
		}
		if err := bind("", to, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// kernel mounts the kernel's file systems, and what a machine has in memory.
func kernel(_ Spec, root string) error {
	for _, m := range []struct{ kind, path string }{
		{"proc", "proc"}, {"sysfs", "sys"}, {"bpf", "sys/fs/bpf"}, {"tmpfs", "run"}, {"tmpfs", "tmp"},
	} {
		if err := mount(m.kind, filepath.Join(root, m.path), ""); err != nil && m.kind != "bpf" {
			return err // a kernel without BPF has no directory for it
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o1777|fs.ModeSticky); err != nil {
		return err
	}
	return bind("/dev", filepath.Join(root, "dev"), unix.MS_BIND|unix.MS_REC)
}

// cgroups mounts the hierarchies of the machine, each with the node's cgroup as
// its root, because the process has a cgroup namespace of its own.
func cgroups(_ Spec, root string) error {
	top := filepath.Join(root, "sys/fs/cgroup")
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return unified(top)
	}
	if err := mount("tmpfs", top, "mode=0755"); err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		controllers := fields[1]
		dir, kind, options := controllers, "cgroup", controllers
		if name, named := strings.CutPrefix(controllers, "name="); named {
			dir, options = name, "none,"+controllers
		}
		if controllers == "" {
			dir, kind = "unified", "cgroup2"
		}
		to := filepath.Join(top, dir)
		if err := mkdirs(to); err != nil {
			return err
		}
		if err := mount(kind, to, options); err != nil {
			return err
		}
	}
	return nil
}

// unified mounts the one hierarchy of version 2. A cgroup that gives controllers
// to its children has no process of its own, so the node's go one level down.
func unified(top string) error {
	if err := mount("cgroup2", top, ""); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(top, Services), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(top, Services, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if err != nil {
		return err
	}
	var enable []string
	for c := range strings.FieldsSeq(string(b)) {
		enable = append(enable, "+"+c)
	}
	return os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte(strings.Join(enable, " ")), 0)
}

// Services is the cgroup of the node's own processes where the machine has only
// cgroups of version 2, below the node's.
const Services = "services"

// pivot makes root the root, and all its mounts shared, as systemd has them:
// pods with mountPropagation count on it.
func pivot(_ Spec, root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "mnt"); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount("/mnt", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the machine's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return bind("", "/", unix.MS_REC|unix.MS_SHARED)
}

// pinned shows the node values of its own for settings that the machine has only
// once. kubelet insists on some of them, and would change the machine's.
func pinned(values map[string]string) error {
	if err := mkdirs(filepath.Dir(PinnedFile(""))); err != nil {
		return err
	}
	for path, value := range values {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		file := PinnedFile(path)
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(file, path, unix.MS_BIND); err != nil {
			return err
		}
	}
	return nil
}

// PinnedFile is the file of a node that stands for the one below /proc.
func PinnedFile(path string) string {
	return "/run/fairlead-e2e/" + strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", ".")
}

// files writes what a node's installer would have.
func files(s Spec) error {
	if err := mkdirs("/run/netns", "/run/lock", "/usr/local/bin", "/var/log/pods", "/var/log/containers"); err != nil {
		return err
	}
	for path, content := range s.Files {
		if err := mkdirs(filepath.Dir(path)); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	for path, to := range s.Links {
		os.Remove(path)
		if err := os.Symlink(to, path); err != nil {
			return err
		}
	}
	for _, name := range s.Plugins {
		b, err := os.ReadFile(filepath.Join("/usr/lib/cni", name))
		if err == nil {
			err = os.WriteFile(filepath.Join("/opt/cni/bin", name), b, 0o755)
		}
		if err != nil {
			return err
		}
	}
	for key, value := range s.Sysctls {
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mount mounts a file system of a kind at path; what is one thing to it is also
// its name.
func mount(kind, path, options string) error {
	if err := unix.Mount(kind, path, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", kind, path, err)
	}
	return nil
}

// bind mounts from at path; without from, flags change what is mounted there.
func bind(from, path string, flags uintptr) error {
	if err := unix.Mount(from, path, "", flags, ""); err != nil {
		return fmt.Errorf("mount %s at %s: %w", from, path, err)
	}
	return nil
}

func mkdirs(paths ...string) error {
	for _, p := range paths {
		if err := os.MkdirAll(p, 0o755); err != nil {
			return err
		}
	}
	return nil
}
