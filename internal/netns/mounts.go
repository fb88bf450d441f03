package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// share makes the directory of namespaces a shared mount, as ip-netns(8) does
// before its first: what is mounted in it is seen, and goes, in every mount
// namespace, and nobody mounts the directory over ours later. Like ip-netns(8),
// which does it one at a time, we take the directory's lock.
func share() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", Dir, err)
	}
	err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // it is no mount yet
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a shared mount: %w", Dir, err)
	}
	return nil
}

// Delete unmounts and removes the namespace at path; what is in it goes when
// its last process does. A namespace that is gone is no error.
func Delete(path string) error {
	if err := unmount(path); err != nil {
		return err
	}
	err := os.Remove(path)
	if errors.Is(err, unix.EBUSY) {
		err = removeBeneath(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// unmount takes away whatever is mounted at path; there may be several, one on
// another.
func unmount(path string) error {
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

// removeBeneath removes a file whose mount is out of reach: its directory was
// mounted over, and no path leads to what is beneath. In a mount namespace of our
// own we take that off; a file that is removed where nothing is mounted on it takes
// with it what is mounted on it elsewhere (vfs_unlink of fs/namei.c).
func removeBeneath(path string) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- removeInOwnMounts(path)
	}()
	return <-done
}

func removeInOwnMounts(path string) error {
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
		if err := unmount(path); err != nil {
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
