package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fairlead.dev/fairlead/e2e/build"
)

// Every program of Kubernetes watches files, each with an inotify instance, and
// the machine gives a user only 128 of them, all nodes together (inotify(7)). A kubelet
// that gets none ends.
const (
	inotifyLimit = "/proc/sys/fs/inotify/max_user_instances"
	inotifyWant  = 8192
	inotifyWas   = "/run/fairlead-e2e.max_user_instances" // while there are clusters: what it was before
)

// raiseLimits gives the clusters of this machine what they need of it, while there are any.
func raiseLimits() error {
	return locked(func() error {
		b, err := os.ReadFile(inotifyLimit)
		if err != nil {
			return err
		}
		if now, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || now >= inotifyWant {
			return err
		}
		if _, err := os.Stat(inotifyWas); errors.Is(err, fs.ErrNotExist) {
			if err := os.WriteFile(inotifyWas, b, 0o644); err != nil {
				return err
			}
		}
		return os.WriteFile(inotifyLimit, []byte(strconv.Itoa(inotifyWant)), 0)
	})
}

// restoreLimits makes the machine as it was, when the last cluster is gone.
func restoreLimits() error {
	return locked(func() error {
		names, err := List()
		if err != nil || len(names) > 0 {
			return err
		}
		b, err := os.ReadFile(inotifyWas)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(inotifyLimit, b, 0), os.Remove(inotifyWas))
	})
}

// lockPatience is how long others may take with the machine's limits.
const lockPatience = 30 * time.Second

// locked runs f while no other process runs one.
func locked(f func() error) error {
	lock, err := os.Open(filepath.Dir(base)) // a directory that is always there
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), lockPatience, fmt.Errorf("not within %s", lockPatience))
	defer cancel()
	if err := build.Lock(ctx, lock); err != nil {
		return err
	}
	return f()
}
