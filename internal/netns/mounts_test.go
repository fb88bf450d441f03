package netns_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// mountCases each run in a mount namespace of their own, whose /run is empty.
var mountCases = map[string]func(t *testing.T){
	"ours, then the machine's first ip netns add": func(t *testing.T) {
		makeNew(t, "ours")
		ip(t, "add")
		remove(t, "ours")
		ip(t, "del")
	},
	"from before the directory was a mount, then ip netns add": func(t *testing.T) {
		mountAsBefore(t, "ours")
		ip(t, "add")
		remove(t, "ours")
		ip(t, "del")
	},
	"from before the directory was a mount, then a new one": func(t *testing.T) {
		mountAsBefore(t, "old")
		makeNew(t, "new")
		remove(t, "old")
		remove(t, "new")
	},
	"a directory mounted over itself time and again": func(t *testing.T) {
		mountAsBefore(t, "old")
		for range 3 {
			bind(t, netns.Dir, netns.Dir, unix.MS_REC)
		}
		remove(t, "old")
	},
	"two mounts at one name": func(t *testing.T) {
		makeNew(t, "ours")
		bind(t, "/proc/self/ns/net", netns.Path("ours"), 0)
		remove(t, "ours")
	},
	"others stay": func(t *testing.T) {
		mountAsBefore(t, "other")
		ip(t, "add")
		makeNew(t, "ours")
		remove(t, "ours")
		for _, name := range []string{"other", "stranger"} {
			if !netns.Alive(netns.Path(name)) {
				t.Errorf("%s went with another", name)
			}
		}
	},
	"the directory is a shared mount": func(t *testing.T) {
		makeNew(t, "ours")
		out, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || !regexp.MustCompile(" "+netns.Dir+" [^ ]+ shared:").Match(out) {
			t.Errorf("%s is no shared mount: %v\n%s", netns.Dir, err, out)
		}
	},
}

// Whoever mounts over the directory of namespaces, and when, the ones we made go.
func TestNamespacesGoWhateverIsMountedOverThem(t *testing.T) {
	for name := range mountCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestInOwnMounts$", "-test.v")
			cmd.Env = append(os.Environ(), "MOUNT_CASE="+name)
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInOwnMounts") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestInOwnMounts is the process of TestNamespacesGoWhateverIsMountedOverThem.
func TestInOwnMounts(t *testing.T) {
	run := mountCases[os.Getenv("MOUNT_CASE")]
	if run == nil {
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", filepath.Dir(netns.Dir), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	run(t)
}

func makeNew(t *testing.T, name string) {
	t.Helper()
	if err := netns.New(name); err != nil {
		t.Fatal(err)
	}
	if !netns.Alive(netns.Path(name)) {
		t.Fatalf("%s is not there", name)
	}
}

// mountAsBefore makes a namespace in a directory that is no mount.
func mountAsBefore(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(netns.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(netns.Path(name), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	bind(t, "/proc/self/ns/net", netns.Path(name), 0)
}

func bind(t *testing.T, from, to string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(from, to, "none", unix.MS_BIND|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// ip adds or deletes a namespace called stranger, as others do.
func ip(t *testing.T, do string) {
	t.Helper()
	if out, err := exec.Command("ip", "netns", do, "stranger").CombinedOutput(); err != nil {
		t.Fatalf("ip netns %s: %v\n%s", do, err, out)
	}
}

// remove deletes a namespace, and finds it gone.
func remove(t *testing.T, name string) {
	t.Helper()
	if err := netns.Delete(netns.Path(name)); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(netns.Path(name)); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", name, err)
	}
}
