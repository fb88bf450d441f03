package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who has not ended in time is named. Here it is the first process of a process
// namespace, which cannot end before all in it are collected, and one of them is
// this test's child.
func TestKillNamesWhoDoesNotEnd(t *testing.T) {
	marker := "FAIRLEAD_PROCESS_TEST=" + t.Name()
	first := exec.Command("sleep", "600")
	first.Env = append(os.Environ(), marker)
	first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = first.Wait() })
	child := exec.Command("sleep", "600")
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: its children belong to the namespace
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", first.Process.Pid))
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWPID)
		}
		if err == nil {
			err = child.Start()
		}
		entered <- err
	}()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	want := fmt.Sprintf("process %d (sleep) has not ended", first.Process.Pid)
	if err := Kill(ctx, marker, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("it says %v, and should say %q", err, want)
	}
}
