package enter

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// netnsDir is where named network namespaces are mounted, as ip-netns(8) has it.
const netnsDir = "/run/netns"

// Netns is the file of the network namespace called name.
func Netns(name string) string { return filepath.Join(netnsDir, name) }

// NewNetns makes the network namespace called name.
func NewNetns(name string) error {
	if err := shareNetns(); err != nil {
		return err
	}
	path := Netns(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("new network namespace: %w", err)
	}
	f.Close()
	err = Place{}.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("new network namespace %s: %w", name, err)
	}
	return nil
}

// shareNetns makes the directory of namespaces a shared mount, under its lock, as
// ip-netns(8) does before its first: nobody mounts the directory over ours later.
func shareNetns() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(netnsDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", netnsDir, err)
	}
	err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // it is no mount yet
		if err = unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a shared mount: %w", netnsDir, err)
	}
	return nil
}

// DeleteNetns removes the network namespace called name; what is in it goes with
// its last process. One that is gone is no error.
func DeleteNetns(name string) error {
	path := Netns(name)
	if err := unmountAll(path); err != nil {
		return err
	}
	err := os.Remove(path)
	if errors.Is(err, unix.EBUSY) {
		err = Place{}.Do(func() error { return removeBeneath(path) })
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// unmountAll takes away what is mounted at path, one on another.
func unmountAll(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// removeBeneath removes a file whose mount is out of reach, its directory having
// been mounted over. It moves the thread to a mount namespace of its own and takes
// that off there; the file takes with it what is mounted on it elsewhere.
func removeBeneath(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts apart: %w", err)
	}
	in, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	for {
		if err := unmountAll(path); err != nil {
			return err
		}
		err := unix.Unlinkat(in, filepath.Base(path), 0)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if unix.Unmount(filepath.Dir(path), unix.MNT_DETACH) != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
	}
}
