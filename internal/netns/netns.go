// Package netns makes, enters and removes network namespaces.
//
// A namespace is known by a path: a name in /run/netns, as ip-netns(8) uses, or
// any other file of a namespace. Only the network is separate; files and
// processes are those of the machine.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Dir is where named namespaces are mounted, as ip-netns(8) has it.
const Dir = "/run/netns"

// Path is the file of the namespace called name.
func Path(name string) string { return filepath.Join(Dir, name) }

// New makes a namespace called name, with its loopback interface down.
func New(name string) error {
	if err := share(); err != nil {
		return err
	}
	path := Path(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network: %w", err)
		}
		return unix.Mount(self(), path, "none", unix.MS_BIND, "")
	})
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("new network namespace %s: %w", name, err)
	}
	return nil
}

// Alive reports whether path is a network namespace.
func Alive(path string) bool { return Inode(path) != 0 }

// Inode is the number of the network namespace at path, or 0 where there is
// none. A path may come to name another namespace, of another number; the number
// of one that is gone may be given to a new one, at another path.
func Inode(path string) uint64 {
	var fs unix.Statfs_t
	var s unix.Stat_t
	if unix.Statfs(path, &fs) != nil || fs.Type != unix.NSFS_MAGIC || unix.Stat(path, &s) != nil {
		return 0
	}
	return s.Ino
}

// Is reports whether the network namespace at path is still that of the number.
func Is(path string, inode uint64) bool { return inode != 0 && Inode(path) == inode }

// Do runs f on a thread inside the namespace at path. Goroutines that f starts
// are not inside it.
func Do(path string, f func() error) error {
	return onThread(func() error {
		if err := Enter(path); err != nil {
			return err
		}
		return f()
	})
}

// Scratch runs f on a thread inside a new namespace that goes when f returns.
func Scratch(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare network: %w", err)
		}
		return f()
	})
}

// Start starts cmd inside the namespace at path.
func Start(path string, cmd *exec.Cmd) error { return Do(path, cmd.Start) }

// Enter moves the calling thread into the namespace at path for good. The
// caller must have locked its goroutine to the thread, and must not unlock it
// unless it goes back.
func Enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// onThread runs f on a thread of its own and returns the thread to the
// namespace it came from. A thread that cannot go back is thrown away.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open(self(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer unix.Close(home)
		err = f()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func self() string { return fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()) }
