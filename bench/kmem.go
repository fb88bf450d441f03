package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// kernelMemory is a control group for this process and those that it starts, by
// which the kernel counts the memory that it uses on their behalf: rules, elements
// of sets, sockets.
type kernelMemory struct {
	dir string // of the group, or of the one that the process was in
	of  func(dir string) (uint64, error)
}

// countKernelMemory puts the process into a group of its own with cgroup v1. With
// v2 that needs what only the owner of the group above may allow; the group that
// it is in serves, where little else should happen meanwhile.
func countKernelMemory() (kernelMemory, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return kernelMemory{}, err
	}
	const mounted = "/sys/fs/cgroup"
	for line := range strings.Lines(string(groups)) {
		_, group, _ := strings.Cut(strings.TrimSpace(line), ":")
		if path, ok := strings.CutPrefix(group, "memory:"); ok {
			dir := filepath.Join(mounted, "memory", path, fmt.Sprint("fairlead-bench-", os.Getpid()))
			if err := os.Mkdir(dir, 0o755); err != nil {
				return kernelMemory{}, err
			}
			return kernelMemory{dir, usageV1}, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0)
		}
		if path, ok := strings.CutPrefix(group, ":"); ok {
			if dir := filepath.Join(mounted, path); exists(filepath.Join(dir, "memory.stat")) {
				return kernelMemory{dir, usageV2}, nil
			}
		}
	}
	return kernelMemory{}, fmt.Errorf("no control group counts memory here")
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// bytes is what the kernel has now.
func (m kernelMemory) bytes() (uint64, error) { return m.of(m.dir) }

// end returns the process to where it was.
func (m kernelMemory) end() error {
	parent := filepath.Dir(m.dir)
	if !strings.HasPrefix(filepath.Base(m.dir), "fairlead-bench-") {
		return nil
	}
	if err := os.WriteFile(filepath.Join(parent, "cgroup.procs"), []byte("0"), 0); err != nil {
		return err
	}
	return os.Remove(m.dir)
}

func usageV1(dir string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "memory.kmem.usage_in_bytes"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

func usageV2(dir string) (n uint64, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "memory.stat"))
	if err == nil {
		_, rest, _ := strings.Cut("\n"+string(text), "\nkernel ")
		_, err = fmt.Sscan(rest, &n)
	}
	return n, err
}
