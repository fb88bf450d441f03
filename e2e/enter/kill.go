package enter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Kill kills every process that has marker, a NAME=VALUE, in its environment, but
// not the caller and those it descends from, and returns when none is left. A
// process id that is used again is never hit: the process is held (pidfd_open(2)) before
// it is looked at.
func Kill(ctx context.Context, marker string) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("end the processes with %s: %w", marker, err)
		}
		held, err := marked(marker)
		if err != nil || len(held) == 0 {
			return err
		}
		var fds []unix.PollFd
		for _, fd := range held {
			if e := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); e != nil && !errors.Is(e, unix.ESRCH) {
				err = errors.Join(err, e)
			}
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
		for i, fd := range held {
			for ctx.Err() == nil && err == nil {
				if n, _ := unix.Poll(fds[i:i+1], 100); n > 0 {
					break
				}
			}
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
	}
}

// marked holds the processes to kill. The dead have no environment.
func marked(marker string) ([]int, error) {
	spared := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !spared[pid]; pid = parent(pid) {
		spared[pid] = true
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var held []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || spared[pid] || !has(dir, marker) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return held, err
		}
		if !has(dir, marker) { // another process of the same id
			unix.Close(fd)
			continue
		}
		held = append(held, fd)
	}
	return held, nil
}

func has(dir, marker string) bool {
	b, _ := os.ReadFile(filepath.Join(dir, "environ")) // gone is as good as without
	return bytes.Contains(append([]byte{0}, b...), []byte("\x00"+marker+"\x00"))
}

func parent(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	var state string
	var ppid int
	_, _ = fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &ppid)
	return ppid
}
