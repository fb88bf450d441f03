package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Signal sends s to every process whose environment has marker, a NAME=VALUE,
// except the caller and those it descends from.
func Signal(marker string, s unix.Signal) error {
	var errs []error
	for _, pid := range others() {
		if fd, ok := hold(pid, func() bool { return marked(pid, marker) }); ok {
			errs = append(errs, send(fd, s))
			unix.Close(fd)
		}
	}
	return errors.Join(errs...)
}

// Kill ends every process that has marker or is written down in records, and
// returns when none is left.
func Kill(ctx context.Context, marker, records string) error {
	for {
		fds := find(marker, records)
		if len(fds) == 0 {
			return nil
		}
		var err error
		for _, fd := range fds {
			err = errors.Join(err, send(fd, unix.SIGKILL))
		}
		for pid, fd := range fds {
			if err == nil {
				err = await(ctx, pid, fd)
			}
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
	}
}

// find opens a pidfd for each process to kill, by its id.
func find(marker, records string) map[int]int {
	written := recorded(records)
	fds := map[int]int{}
	for _, pid := range others() {
		ours := func() bool {
			now, err := startTime(pid)
			return err == nil && written[pid] == now || marked(pid, marker)
		}
		if fd, ok := hold(pid, ours); ok {
			if leads(pid) {
				_ = unix.Kill(-pid, unix.SIGKILL) // the group is its leader's, who is held
			}
			fds[pid] = fd
		}
	}
	return fds
}

// recorded reads the start times that were written down.
func recorded(dir string) map[int]string {
	out := map[int]string{}
	files, err := os.ReadDir(dir)
	if err != nil {
		return out // no directory, no records
	}
	for _, f := range files {
		pid, err := strconv.Atoi(f.Name())
		content, readErr := os.ReadFile(filepath.Join(dir, f.Name()))
		if err == nil && readErr == nil && len(content) > 0 {
			out[pid] = string(content)
		}
	}
	return out
}

// others lists all processes but the caller and its ancestors.
func others() []int {
	own := []int{os.Getpid()}
	for pid := os.Getppid(); pid > 1; {
		own = append(own, pid)
		pid = parent(pid)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 1 && !slices.Contains(own, pid) {
			out = append(out, pid)
		}
	}
	return out
}

// hold opens pid and then makes sure that it is ours: what it holds cannot turn
// into another process.
func hold(pid int, ours func() bool) (fd int, ok bool) {
	if !ours() { // cheap, and right for nearly all
		return -1, false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, false // gone
	}
	if !ours() {
		unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// marked reports whether a living process has marker. One that has ended and
// waits for its parent has no environment.
func marked(pid int, marker string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	return slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return string(v) == marker })
}

func leads(pid int) bool {
	group, err := unix.Getpgid(pid)
	return err == nil && group == pid
}

func send(fd int, s unix.Signal) error {
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s: %w", unix.SignalName(s), err)
	}
	return nil
}

// lingers says that a process has not ended, although it was killed.
func lingers(pid int, why error) error {
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // it may have ended now
	return fmt.Errorf("process %d (%s) has not ended, although it was killed: %w", pid, strings.TrimSpace(string(name)), why)
}

// pollTurn bounds one look at a pidfd, so that a context is heard in between.
const pollTurn = 100 * time.Millisecond

// await waits for the end of the process behind fd.
func await(ctx context.Context, pid, fd int) error {
	for {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, int(pollTurn.Milliseconds()))
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if ctx.Err() != nil {
			return lingers(pid, context.Cause(ctx))
		}
	}
}
