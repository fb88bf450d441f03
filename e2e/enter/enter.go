// Package enter runs commands inside a node: in the namespaces of another
// process and in cgroups of their own, as nsenter(1) would, but without a process
// between the caller and the command: its process id is the command's, and the
// caller is its parent.
//
// A thread enters the namespaces, and ends afterwards; the command is born where
// its thread is (setns(2), cgroups(7)).
package enter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Place is where a command runs. The zero value is where the caller is.
type Place struct {
	PID     int      // a process all of whose namespaces are entered; 0: none; negative: one that is not there
	Netns   string   // without PID: the file of a network namespace; "": the caller's
	Cgroups []string // directories, at most one a hierarchy, as the caller sees them
	Env     []string // added to the caller's environment
}

// A Cmd is an exec.Cmd that starts at its place. Once it has ended it is collected
// at once, whether somebody waits for it or not: a process namespace does not end
// before all that was in it is collected (pid_namespaces(7)). So what it prints is
// written to Stdout and Stderr; a pipe would be closed before all of it is read.
type Cmd struct {
	*exec.Cmd
	place Place
	cause func() error  // why it is not to run any longer; nil: it is
	ended chan struct{} // closed when it has been collected
	err   error         // how it ended, then
}

// outputPatience is for what others, who may be its descendants, still hold open
// of a command's output when it has ended.
const outputPatience = 5 * time.Second

// Command is args, run at p. The program is looked for at p.
func (p Place) Command(ctx context.Context, args ...string) *Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.WaitDelay = append(os.Environ(), p.Env...), outputPatience
	return &Cmd{Cmd: cmd, place: p, cause: func() error { return context.Cause(ctx) }, ended: make(chan struct{})}
}

// Start starts the command and does not wait for it.
func (c *Cmd) Start() error {
	if err := c.start(); err != nil {
		return err
	}
	go func() {
		if c.err = c.Cmd.Wait(); c.err != nil && c.cause() != nil {
			c.err = fmt.Errorf("%w, after %w", c.cause(), c.err)
		}
		close(c.ended)
	}()
	return nil
}

// Ended is closed when the command has ended.
func (c *Cmd) Ended() <-chan struct{} { return c.ended }

// Wait returns how the command ended, when it has.
func (c *Cmd) Wait() error {
	<-c.ended
	return c.err
}

func (c *Cmd) start() error {
	unified, err := c.place.unified()
	if err != nil {
		return err
	}
	if unified != nil {
		defer unified.Close()
		if c.SysProcAttr == nil {
			c.SysProcAttr = &unix.SysProcAttr{}
		}
		c.SysProcAttr.UseCgroupFD, c.SysProcAttr.CgroupFD = true, int(unified.Fd())
	}
	return c.place.Do(func() error {
		if !strings.Contains(c.Args[0], "/") {
			if c.Path, c.Err = exec.LookPath(c.Args[0]); c.Err != nil {
				return c.Err
			}
		}
		return c.Cmd.Start()
	})
}

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// answerPatience bounds a command of which somebody waits for the output.
const answerPatience = 5 * time.Minute

// Output runs the command and returns what it printed. What it complained of is
// in the error, unless Stderr is set.
func (c *Cmd) Output() (string, error) {
	var out, complaint bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &complaint
	}
	err := c.Start()
	if err == nil {
		late := time.AfterFunc(answerPatience, func() { _ = c.Process.Kill() }) // it may have ended just now
		if err = c.Wait(); !late.Stop() {
			err = fmt.Errorf("it did not end within %s: %w", answerPatience, err)
		}
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// Do runs f on a thread that is at p. Goroutines that f starts are not.
func (p Place) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread must not serve anybody else
		err := p.enter()
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// enter moves the calling thread: first into the cgroups, while their paths still
// mean what they mean to the caller.
func (p Place) enter() error {
	if p.PID < 0 {
		return errors.New("the node is off")
	}
	for _, dir := range p.Cgroups {
		if tasks := filepath.Join(dir, "tasks"); exists(tasks) {
			if err := os.WriteFile(tasks, []byte(strconv.Itoa(unix.Gettid())), 0); err != nil {
				return fmt.Errorf("join cgroup: %w", err)
			}
		}
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, path := range p.namespaces() {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		files = append(files, f)
	}
	// A thread that shares its root directory cannot change its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare root directory: %w", err)
	}
	for _, f := range files {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("enter namespace %s: %w", f.Name(), err)
		}
	}
	return nil
}

// namespaces lists the files of the namespaces to enter. The mount namespace is
// the last, because the others' files may not be found in it.
func (p Place) namespaces() []string {
	if p.PID == 0 {
		if p.Netns == "" {
			return nil
		}
		return []string{p.Netns}
	}
	var out []string
	for _, kind := range []string{"cgroup", "ipc", "uts", "net", "pid", "mnt"} {
		out = append(out, fmt.Sprintf("/proc/%d/ns/%s", p.PID, kind))
	}
	return out
}

// unified opens the version 2 cgroup among p's, which takes whole processes only,
// at birth. There is at most one.
func (p Place) unified() (*os.File, error) {
	for _, dir := range p.Cgroups {
		if !exists(filepath.Join(dir, "tasks")) {
			return os.Open(dir)
		}
	}
	return nil, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
