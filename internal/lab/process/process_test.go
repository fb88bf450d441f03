package process

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// command runs a script in the machine's own network namespace.
func command(t *testing.T, script string, env ...string) Command {
	t.Helper()
	dir := t.TempDir()
	return Command{
		Args: []string{"sh", "-c", script}, Env: append(os.Environ(), env...), Netns: "/proc/self/ns/net",
		Log: filepath.Join(dir, "log"), Records: dir,
	}
}

func start(t *testing.T, c Command) *Process {
	t.Helper()
	p, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Signal(unix.SIGKILL); <-p.Done() })
	return p
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func ended(p *Process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

func TestKillFindsMarkedAndRecordedProcessesAndNoOthers(t *testing.T) {
	const marker = "FAIRLEAD_PROCESS_TEST=kill"
	marked := start(t, command(t, "sleep 1000 & wait", marker))
	stranger := start(t, command(t, "exec sleep 1000", marker+"2"))
	recorded := start(t, command(t, "exec sleep 1000"))
	records := t.TempDir()
	write := func(pid int, started string) {
		if err := os.WriteFile(filepath.Join(records, strconv.Itoa(pid)), []byte(started), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	began, err := startTime(recorded.PID)
	if err != nil {
		t.Fatal(err)
	}
	write(recorded.PID, began)
	write(stranger.PID, "12345") // its number was another process's once
	write(os.Getpid(), "12345")
	if err := Kill(soon(t), marker, records); err != nil {
		t.Fatal(err)
	}
	<-marked.Done()
	<-recorded.Done()
	if ended(stranger) {
		t.Error("a foreign process was killed")
	}
	if marked.ExitCode() != 128+int(unix.SIGKILL) {
		t.Errorf("exit code %d", marked.ExitCode())
	}
}

func TestKillSparesItsCallerWhateverItsEnvironment(t *testing.T) {
	if os.Getenv("FAIRLEAD_PROCESS_TEST") == "caller" {
		if err := Kill(soon(t), "FAIRLEAD_PROCESS_TEST=caller", t.TempDir()); err != nil {
			t.Fatal(err)
		}
		return
	}
	// A shell with the marker is the parent of one that kills by it.
	again := exec.Command("sh", "-c", os.Args[0]+" -test.run="+t.Name()+"; echo parent lives $?")
	again.Env = append(os.Environ(), "FAIRLEAD_PROCESS_TEST=caller")
	out, err := again.CombinedOutput()
	if err != nil || string(out) != "PASS\nparent lives 0\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestStopInsists(t *testing.T) {
	willing := start(t, command(t, "exec sleep 1000"))
	if err := willing.Stop(soon(t)); err != nil {
		t.Error(err)
	}
	if willing.ExitCode() != 128+int(unix.SIGTERM) {
		t.Errorf("willing: exit code %d", willing.ExitCode())
	}
	c := command(t, "trap '' TERM; echo deaf; while :; do sleep 1000; done")
	deaf := start(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for { // it must have set its trap
		if b, err := os.ReadFile(c.Log); err != nil || len(b) > 0 {
			break
		}
	}
	if err := deaf.Stop(ctx); err != nil {
		t.Error(err)
	}
	if deaf.ExitCode() != 128+int(unix.SIGKILL) {
		t.Errorf("deaf: exit code %d", deaf.ExitCode())
	}
}

func TestRecordsGoWithTheirProcess(t *testing.T) {
	c := command(t, "exit 7")
	p := start(t, c)
	<-p.Done()
	if p.ExitCode() != 7 {
		t.Errorf("exit code %d", p.ExitCode())
	}
	if _, err := os.Stat(filepath.Join(c.Records, strconv.Itoa(p.PID))); !os.IsNotExist(err) {
		t.Errorf("record is left: %v", err)
	}
	if _, err := Start(Command{Args: []string{"no-such-program"}, Log: c.Log}); err == nil {
		t.Error("a program that there is not was started")
	}
}
