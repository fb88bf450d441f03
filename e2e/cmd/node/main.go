// Command node is the first process of a node of the test cluster: it makes its
// namespaces a node, says so, and collects the orphans of whatever runs there.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/node"
)

// ready is the file descriptor on which the node says that it is up, by closing
// it, or what is wrong.
const ready = 3

func main() {
	answer := os.NewFile(ready, "ready")
	if err := run(answer); err != nil {
		fmt.Fprintf(answer, "node: %v", err)
		os.Exit(1)
	}
}

func run(answer *os.File) error {
	if os.Getpid() != 1 {
		return errors.New("this is a node's first process; the command cluster starts it")
	}
	if os.Getenv(own) == "" {
		return ownCgroups()
	}
	spec, err := node.Read(os.Getenv(node.Environment))
	if err != nil {
		return err
	}
	if err := node.Boot(spec); err != nil {
		return err
	}
	answer.Close()
	reap()
	return nil
}

// own is set once the process has a cgroup namespace of its own.
const own = "FAIRLEAD_E2E_NODE_CGROUPS"

// ownCgroups makes the cgroups in which the process is the roots of a new cgroup
// namespace, for the whole process: only one thread can leave a namespace, but it
// becomes the whole process when it executes a program.
func ownCgroups() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare cgroups: %w", err)
	}
	if _, err := unix.FcntlInt(ready, unix.F_SETFD, 0); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), own+"=1"))
}

// reap collects children until the process is killed.
func reap() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGCHLD)
	for range c {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
	}
}
