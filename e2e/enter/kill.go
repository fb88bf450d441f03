package enter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killPatience is how long processes may take to end once they are killed.
const killPatience = 30 * time.Second

// Kill kills every process that has marker, a NAME=VALUE, in its environment, but
// not the caller and those it descends from, and returns when none is left, or
// with who is when that takes too long. A process id that is used again is never
// hit: the process is held (pidfd_open(2)) before it is looked at.
func Kill(ctx context.Context, marker string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killPatience, fmt.Errorf("not within %s of being killed", killPatience))
	defer cancel()
	for {
		all, err := marked(marker)
		if err == nil && len(all) == 0 {
			return nil
		}
		for _, p := range all {
			if e := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); e != nil && !errors.Is(e, unix.ESRCH) {
				err = errors.Join(err, fmt.Errorf("kill %s: %w", p, e))
			}
		}
		for _, p := range all {
			if err == nil {
				err = p.end(ctx)
			}
			unix.Close(p.fd)
		}
		if err != nil {
			return fmt.Errorf("end the processes with %s: %w", marker, err)
		}
	}
}

// A process is one that is held: what has its id later is another.
type process struct{ pid, fd int }

func (p process) String() string { return fmt.Sprintf("process %d (%s)", p.pid, name(p.pid)) }

// end waits for the end of the process.
func (p process) end(ctx context.Context) error {
	for {
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 100); n > 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not end (%w)%s", p, context.Cause(ctx), keepers(p.pid))
		}
	}
}

// keepers tells of the dead in the process namespace of pid: it does not end
// before their parents have collected them.
func keepers(pid int) string {
	space := namespace(pid)
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well formed
	var all strings.Builder
	for _, dir := range dirs {
		other, err := strconv.Atoi(filepath.Base(dir))
		if state, above := stat(other); err == nil && state == "Z" && other != pid && space != "" && namespace(other) == space {
			fmt.Fprintf(&all, "; process %d (%s) is dead and not collected by its parent %d (%s)", other, name(other), above, name(above))
		}
	}
	return all.String()
}

// namespace names the process namespace of pid; "" when it is gone.
func namespace(pid int) string {
	space, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) // gone
	return space
}

func name(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // gone
	return strings.TrimSpace(string(b))
}

// marked holds the processes to kill. The dead have no environment.
func marked(marker string) ([]process, error) {
	spared := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !spared[pid]; pid = parent(pid) {
		spared[pid] = true
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var held []process
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
		held = append(held, process{pid, fd})
	}
	return held, nil
}

func has(dir, marker string) bool {
	b, _ := os.ReadFile(filepath.Join(dir, "environ")) // gone is as good as without
	return bytes.Contains(append([]byte{0}, b...), []byte("\x00"+marker+"\x00"))
}

func parent(pid int) int {
	_, above := stat(pid)
	return above
}

// stat is what proc_pid_stat(5) says of the state of a process, and its parent.
func stat(pid int) (state string, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, _ = fmt.Sscan(string(b[bytes.LastIndexByte(b, ')')+1:]), &state, &parent) // the kernel's words
	return state, parent
}
