package netns_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

func here(t *testing.T) string {
	t.Helper()
	id, err := os.Readlink(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		t.Error(err)
	}
	return id
}

// newNetns makes a namespace for as long as t runs.
func newNetns(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("fairlead-netns-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	if err := netns.New(name); err != nil {
		t.Fatal(err)
	}
	path := netns.Path(name)
	t.Cleanup(func() {
		if err := netns.Delete(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	path, home := newNetns(t), here(t)
	var wg sync.WaitGroup
	inside := sync.Map{}
	for range 20 { // threads are used again: none may stay inside
		wg.Go(func() {
			if err := netns.Do(path, func() error { inside.Store(here(t), true); return nil }); err != nil {
				t.Error(err)
			}
			if now := here(t); now != home {
				t.Errorf("a thread stays in %s, home is %s", now, home)
			}
		})
	}
	wg.Wait()
	seen := 0
	inside.Range(func(id, _ any) bool {
		seen++
		if id == home {
			t.Error("it did not run inside")
		}
		return true
	})
	if seen != 1 {
		t.Errorf("it ran in %d namespaces, want 1", seen)
	}
}

func TestDoReturnsTheError(t *testing.T) {
	want := errors.New("ours")
	if err := netns.Do(newNetns(t), func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := netns.Do("/run/netns/fairlead-nowhere", func() error { t.Error("it ran"); return nil }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no namespace: %v", err)
	}
}

func TestStartStartsInside(t *testing.T) {
	path := newNetns(t)
	var out strings.Builder
	cmd := exec.Command("readlink", "/proc/self/ns/net")
	cmd.Stdout = &out
	if err := netns.Start(path, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || strings.TrimSpace(out.String()) == here(t) {
		t.Errorf("started in %s, home is %s (%v)", strings.TrimSpace(out.String()), here(t), err)
	}
}

func TestScratchLeavesNothing(t *testing.T) {
	home := here(t)
	if err := netns.Scratch(func() error {
		if here(t) == home {
			t.Error("it did not run in a namespace of its own")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if now := here(t); now != home {
		t.Errorf("now in %s, home is %s", now, home)
	}
}

// A pod's namespace file outlives the namespace when it was only unmounted.
func TestAliveTellsNamespacesFromFiles(t *testing.T) {
	path := newNetns(t)
	if !netns.Alive(path) {
		t.Error("a namespace is not alive")
	}
	if netns.Alive("/run/netns/fairlead-nowhere") || netns.Alive("/etc/passwd") {
		t.Error("what is no namespace is alive")
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if netns.Alive(path) {
		t.Error("the file that is left of a namespace is alive")
	}
}

// A path that names another namespace than before is not the old one.
func TestIsTellsOneNamespaceFromAnotherAtItsPath(t *testing.T) {
	path := newNetns(t)
	inode := netns.Inode(path)
	if !netns.Is(path, inode) || netns.Is(path, inode+1) || netns.Is(path, 0) {
		t.Errorf("namespace %d is not known by its number", inode)
	}
	if err := unix.Mount("/proc/self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if netns.Is(path, inode) {
		t.Error("another namespace passes for the old one")
	}
	for range 2 {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
	}
	if netns.Is(path, 0) || netns.Inode(path) != 0 {
		t.Error("a file that is no namespace has a number")
	}
}

func TestDeleteTwiceAndNewTwice(t *testing.T) {
	path := newNetns(t)
	if err := netns.New(strings.TrimPrefix(path, netns.Dir+"/")); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second namespace of one name: %v", err)
	}
	for range 2 {
		if err := netns.Delete(path); err != nil {
			t.Error(err)
		}
	}
}
