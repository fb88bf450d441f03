package enter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A command in a network namespace has that one, and its process id is its own:
// nothing stands between it and the caller.
func TestACommandIsAtItsPlace(t *testing.T) {
	name := fmt.Sprintf("e2e-enter-%d", os.Getpid())
	if err := NewNetns(name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := DeleteNetns(name); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(Netns(name)); err == nil {
			t.Errorf("%s is left", Netns(name))
		}
	}()
	cmd := Place{Netns: Netns(name), Env: []string{"AT=there"}}.Command(t.Context(), "sh", "-c", "echo $$ $PPID $AT; tail -n +3 /proc/net/dev")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d %d there\n", cmd.Process.Pid, os.Getpid())
	if !strings.HasPrefix(out, want) || strings.Count(out[strings.LastIndex(out, "\n "):], ":") != 1 {
		t.Errorf("it says %q, and should begin with %q and end with one link", out, want)
	}
	if _, err := (Place{PID: -1}).Command(t.Context(), "true").Output(); err == nil {
		t.Error("a command ran on a node that is off")
	}
}

// A namespace goes whoever mounts over the directory that it is in, and when: the
// first ip netns add of a machine does.
func TestANamespaceGoesFromBeneathAMount(t *testing.T) {
	for _, name := range []string{"new", "old"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestInOwnMounts$", "-test.v")
		cmd.Env = append(os.Environ(), "MOUNT_CASE="+name)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInOwnMounts") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestInOwnMounts is the process of TestANamespaceGoesFromBeneathAMount.
func TestInOwnMounts(t *testing.T) {
	name := os.Getenv("MOUNT_CASE")
	if name == "" {
		return
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	must(unix.Mount("none", filepath.Dir(netnsDir), "tmpfs", 0, ""))
	if name == "new" {
		must(NewNetns(name))
	} else { // as it was when the directory was no mount
		must(os.Mkdir(netnsDir, 0o755))
		must(os.WriteFile(Netns(name), nil, 0o444))
		must(unix.Mount("/proc/self/ns/net", Netns(name), "", unix.MS_BIND, ""))
	}
	must(exec.Command("ip", "netns", "add", "stranger").Run())
	must(DeleteNetns(name))
	if _, err := os.Lstat(Netns(name)); !os.IsNotExist(err) {
		t.Errorf("it is left: %v", err)
	}
	must(exec.Command("ip", "netns", "del", "stranger").Run())
}
