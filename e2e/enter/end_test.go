package enter

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tooLong ends a test whose wait would never end.
const tooLong = 30 * time.Second

// machine starts a first process in a process namespace of its own, as a node
// is, with a marker to find it by.
func machine(t *testing.T) (first *exec.Cmd, marker string) {
	t.Helper()
	marker = fmt.Sprintf("FAIRLEAD_E2E_ENTER=%d-%s", os.Getpid(), t.Name())
	first = exec.Command("sleep", "600")
	first.Env = append(os.Environ(), marker)
	first.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = first.Wait(); close(ended) }() // it is killed
	t.Cleanup(func() {
		_ = first.Process.Kill() // it may have ended
		<-ended
	})
	return first, marker
}

// A node's process namespace ends when all that was in it has been collected, and
// who entered it from outside is collected outside: whoever starts a command and
// kills it, and never asks for it again, does not keep the node.
func TestAKilledCommandDoesNotKeepItsNode(t *testing.T) {
	first, marker := machine(t)
	cmd := Place{PID: first.Process.Pid, Env: []string{marker}}.Command(context.Background(), "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }() // only now, for a test that fails
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), tooLong)
	defer cancel()
	if err := Kill(ctx, marker); err != nil {
		t.Error(err)
	}
}

// Where somebody else keeps a node, an end is not waited for without end, and who
// it is gets said.
func TestKillSaysWhoKeepsANode(t *testing.T) {
	first, marker := machine(t)
	var child *exec.Cmd
	err := Place{PID: first.Process.Pid}.Do(func() error {
		child = exec.Command("sleep", "600")
		return child.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = Kill(ctx, marker)
	for _, want := range []string{
		fmt.Sprintf("process %d (sleep)", first.Process.Pid),
		fmt.Sprintf("process %d (sleep) is dead and not collected by its parent %d", child.Process.Pid, os.Getpid()),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, and should say %q", err, want)
		}
	}
}

// What a command leaves behind may keep its output open, for as long as it likes.
func TestACommandEndsWithoutWhatItLeftBehind(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct{ what, script string }{{"ended", "sleep 600 & echo $!"}, {"killed", "sleep 600 & echo $!; exec sleep 600"}} {
		what, script := c.what, c.script
		done := make(chan string, 1)
		go func() {
			out, err := Place{}.Command(ctx, "sh", "-c", script).Output()
			if err == nil {
				t.Errorf("%s: nothing is said of output that never ended", what)
			}
			done <- out
		}()
		if what == "killed" {
			time.AfterFunc(time.Second, cancel)
		}
		select {
		case out := <-done:
			var left int
			if _, err := fmt.Sscan(out, &left); err != nil {
				t.Fatalf("%s: it says %q: %v", what, out, err)
			}
			_ = unix.Kill(left, unix.SIGKILL)
		case <-time.After(tooLong):
			t.Fatalf("%s: Output waits for who is left", what)
		}
	}
}
