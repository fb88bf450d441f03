// Package process starts processes so that they can be found and ended later,
// also by somebody else, and never by mistake.
//
// Every process carries a marker in its environment, which its children
// inherit, and leads a process group. One that was started here is also written
// down, with its start time, because a program may overwrite its environment. A
// process is signalled through a pidfd and only after it was recognised, so a
// process id that was used again is never hit.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// A Process is one that runs: a process and everything in its group.
type Process struct {
	PID  int
	done chan struct{}
	code int
	file string
}

// A Command is what to run, and where.
type Command struct {
	Args    []string
	Env     []string // all of it
	Dir     string   // default: the root
	Netns   string   // path
	Log     string   // file that gets both outputs, at its end
	Records string   // directory in which the process is written down
}

// Start starts c.
func Start(c Command) (*Process, error) {
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	path, err := Look(c.Args[0], c.Env)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: c.Args, Env: c.Env, Dir: "/", Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if c.Dir != "" {
		cmd.Dir = c.Dir
	}
	if err := netns.Start(c.Netns, cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Args[0], err)
	}
	p := &Process{PID: cmd.Process.Pid, done: make(chan struct{}), file: filepath.Join(c.Records, strconv.Itoa(cmd.Process.Pid))}
	started, _ := startTime(p.PID)
	recordErr := os.WriteFile(p.file, []byte(started), 0o600)
	go func() {
		err := cmd.Wait()
		p.code = exitCode(cmd.ProcessState, err)
		os.Remove(p.file)
		close(p.done)
	}()
	if recordErr != nil {
		p.Signal(unix.SIGKILL)
		return nil, fmt.Errorf("write down process: %w", recordErr)
	}
	return p, nil
}

// exitCode is what a shell would say: 128 and the signal for one that was
// killed.
func exitCode(s *os.ProcessState, err error) int {
	if s == nil {
		return 255
	}
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	if err != nil && s.ExitCode() < 0 {
		return 255
	}
	return s.ExitCode()
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is what the process ended with, once it has.
func (p *Process) ExitCode() int { return p.code }

// Signal signals p's whole group.
func (p *Process) Signal(s unix.Signal) {
	// ESRCH: nobody is left, which is what a signal is for.
	_ = unix.Kill(-p.PID, s)
}

// Stop asks p to end and, when ctx is done before it has, makes it.
func (p *Process) Stop(ctx context.Context) error {
	p.Signal(unix.SIGTERM)
	select {
	case <-p.done:
	case <-ctx.Done():
	}
	return p.Kill()
}

// killPatience is how long the kernel may take to end a process.
const killPatience = 10 * time.Second

// Kill makes p end, and what it left behind in its group.
func (p *Process) Kill() error {
	p.Signal(unix.SIGKILL)
	late := time.NewTimer(killPatience)
	defer late.Stop()
	select {
	case <-p.done:
		return nil
	case <-late.C:
		return lingers(p.PID, fmt.Errorf("not within %s", killPatience))
	}
}

// Look finds the program called name on the PATH of env.
func Look(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(Getenv(env, "PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// Getenv returns the last value that env has for name.
func Getenv(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// errEnded: the process only waits for its parent to notice.
var errEnded = errors.New("process has ended")

// startTime is when the process started, in ticks since boot (proc(5), stat
// field 22), which with the pid names it for good.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return "", errors.New("stat is cut short")
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", errEnded
	}
	return fields[19], nil
}
