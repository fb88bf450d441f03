package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/enter"
)

// A component is a process of the cluster that is started, stopped, and started
// again: of the control plane or of a node. It outlives who starts it; its
// process id is in a file.
type component struct {
	place  enter.Place
	args   []string
	log    string // file
	record string // file: process id and start time
	attr   *unix.SysProcAttr
	files  []*os.File
}

// start starts the component, unless it runs.
func (k component) start() error {
	if pid, _ := k.running(); pid != 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(k.log), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(k.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := k.place.Command(context.Background(), k.args...) // it outlives whatever context there is
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", log, log, k.files
	if cmd.SysProcAttr = k.attr; k.attr == nil {
		cmd.SysProcAttr = &unix.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true // nobody's terminal
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", k.args[0], err)
	}
	content := fmt.Sprintf("%d %s\n", cmd.Process.Pid, startTime(cmd.Process.Pid))
	return os.WriteFile(k.record, []byte(content), 0o644)
}

// running is the component's process id, or 0.
func (k component) running() (int, error) {
	b, err := os.ReadFile(k.record)
	if err != nil {
		return 0, err
	}
	var pid int
	var since string
	if _, err := fmt.Sscan(string(b), &pid, &since); err != nil {
		return 0, fmt.Errorf("%s: %w", k.record, err)
	}
	if startTime(pid) != since {
		return 0, nil
	}
	return pid, nil
}

// startTime is the start time of a process as proc_pid_stat(5) has it, field 22;
// "" when the process has ended. With its id it names a process for good.
func startTime(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// stopPatience is how long a component may take to end when it is asked to.
const stopPatience = 10 * time.Second

// stop asks the component to end, makes it if it does not, and waits for it.
func (k component) stop(ctx context.Context) error {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		ended, err := k.end(ctx, s)
		if ended || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not end within %s of being killed, see %s", k.args[0], stopPatience, k.log)
}

// end signals the component, and reports whether it ended soon.
func (k component) end(ctx context.Context, s unix.Signal) (bool, error) {
	pid, err := k.running()
	if pid == 0 {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return true, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	if again, _ := k.running(); again != pid {
		return true, nil
	}
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	for ctx.Err() == nil {
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100); n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// Eventually calls f until it has no error, and returns its last when ctx is done.
func Eventually(ctx context.Context, what string, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (%w)", what, err, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
