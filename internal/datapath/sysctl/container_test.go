package sysctl_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// A container's /proc/sys is read-only; the node's settings are mounted elsewhere,
// and are those of the namespace that the thread is in.
func TestAContainersSettingsAreThoseOfTheNamespace(t *testing.T) {
	h := netnstest.New(t)
	for _, mounted := range []string{"mounted", "missing"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestInContainer$", "-test.v")
		cmd.Env = append(os.Environ(), "IN_CONTAINER="+t.TempDir(), "SETTINGS="+mounted, "POD="+h.Path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInContainer") {
			t.Errorf("%s: %v\n%s", mounted, err, out)
		}
	}
	h.Do(func() error {
		got, err := sysctl.Read("net/ipv4/ip_forward")
		if got != "1" {
			t.Errorf("the pod's is %q", got)
		}
		return err
	})
}

// TestInContainer is the process of TestAContainersSettingsAreThoseOfTheNamespace.
func TestInContainer(t *testing.T) {
	root := os.Getenv("IN_CONTAINER")
	if root == "" {
		return
	}
	mount := func(from, to string, flags uintptr) {
		t.Helper()
		to = filepath.Join(root, to)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(from, to, "", flags, ""); err != nil {
			t.Fatalf("mount %s: %v", to, err)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	mount("/proc", "proc", unix.MS_BIND|unix.MS_REC)
	mount("/proc/sys", "proc/sys", unix.MS_BIND)
	mount("", "proc/sys", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
	mount("/run/netns", "run/netns", unix.MS_BIND|unix.MS_REC)
	if os.Getenv("SETTINGS") == "mounted" {
		mount("/proc/sys/net", "host/proc/sys/net", unix.MS_BIND)
	}
	if err := unix.Chroot(root); err != nil {
		t.Fatal(err)
	}
	set := func() error { return sysctl.Apply(sysctl.Setting{Key: "net/ipv4/ip_forward", Value: "1"}) }
	err := netns.Do(os.Getenv("POD"), set)
	if os.Getenv("SETTINGS") != "mounted" {
		if err == nil || !strings.Contains(err.Error(), "mount the host's /proc/sys/net at /host/proc/sys/net") {
			t.Errorf("without the mount: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sysctl.Read("net/ipv4/ip_forward"); got != "0" || err != nil {
		t.Errorf("the container's own is %q, %v", got, err)
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	if got, err := sysctl.Read("net/ipv4/ip_forward"); got != "1" || err != nil {
		t.Errorf("the container's own becomes %q, %v", got, err)
	}
}
