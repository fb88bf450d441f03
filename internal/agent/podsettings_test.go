package agent

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/settings"
	"fairlead.dev/fairlead/internal/world"
)

func tcpConfig(spec string) string {
	return "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: " + spec
}

// has holds a namespace to a value.
func has(t *testing.T, h *netnstest.Host, key, want string) {
	t.Helper()
	var got string
	h.Do(func() (err error) {
		got, err = sysctl.Read(key)
		return err
	})
	if got != want {
		t.Errorf("%s is %q, want %q", key, got, want)
	}
}

// looks has the agent look at what announces nothing, and take a turn; true: there was
// something.
func (n *node) looks(t *testing.T) (found bool) {
	t.Helper()
	n.host.Do(func() error {
		n.turning.Lock() // the loop may have something to do too
		found = n.peek()
		n.turning.Unlock()
		if found {
			n.loop.change((*schedule).distrust)
		}
		return n.turn()
	})
	return found
}

func (n *node) podSettings(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(settings.Files(n.config.StateDir)[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func (n *node) doctorSays(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	n.host.Do(func() error {
		n.serveDoctor(w, httptest.NewRequest(http.MethodGet, "/v1/doctor", nil))
		return nil
	})
	return w.Body.String()
}

// What is set is there when ADD answers, and is written down as done: whatever the
// runtime writes next is the pod's own.
func TestAddSetsTCPAndThePodsOwnValueStays(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	_, plain := attach(t, n, "plain")
	_, own := attach(t, n, "own")
	has(t, plain, world.TCPTimestamps, "2")
	has(t, own, world.TCPTimestamps, "2")
	_, onDisk, err := settings.OpenPods(n.config.StateDir, n.config.BootID)
	if err != nil || len(onDisk.List) != 2 || slices.ContainsFunc(onDisk.List, func(s settings.Setting) bool { return s.From != "" || s.Value != "2" }) {
		t.Errorf("not written down as done: %+v, %v", onDisk, err)
	}
	own.Sysctl(world.TCPTimestamps, "1") // as runtimes do it, after ADD, even with the kernel's own value
	for _, begin := range []func(*testing.T){func(*testing.T) {}, n.restart} {
		begin(t)
		n.looks(t)
		n.looks(t)
		has(t, own, world.TCPTimestamps, "1")
		has(t, plain, world.TCPTimestamps, "2")
		if says := n.doctorSays(t); !strings.Contains(says, "default/own net/ipv4/tcp_timestamps=1") {
			t.Errorf("the doctor does not tell: %s", says)
		}
		if d := n.diffText(t); d != "" {
			t.Errorf("something is not as it should be:\n%s", d)
		}
	}
}

// On pods that run, settings come and go with the AgentConfig.
func TestTCPOfRunningPodsFollowsTheConfig(t *testing.T) {
	n := newNode(t, nodes, tcpConfig("{podTCPTimestamps: keep}"))
	n.mustTurn(t)
	n.write(t, "config.yaml", "")
	pods := map[string]*netnstest.Host{}
	n.start(t)
	for _, name := range []string{"plain", "own", "late"} {
		_, pods[name] = attach(t, n, name)
	}
	pods["own"].Sysctl(world.TCPTimestamps, "0")
	reuse, other := "2", "3"
	pods["plain"].Do(func() (err error) {
		reuse, err = sysctl.Read(world.TCPReuse)
		return err
	})
	for _, step := range []struct{ spec, plain, own, reuse, late string }{
		{"{podTCPTimestamps: monotonic, podTCPReuse: true}", "2", "0", "1", "2"},
		{"{podTCPTimestamps: random, podTCPReuse: true}", "1", "0", "1", other},
		{"{podTCPTimestamps: monotonic}", "2", "0", reuse, other},
		{"{podTCPTimestamps: keep}", "1", "0", reuse, other},
		{"{overlay: {mode: direct}}", "2", "0", reuse, other},
		{"{overlay: {mode: none}}", "1", "0", reuse, other},
	} {
		n.write(t, "objects.yaml", nodes+"\n---\n"+tcpConfig(step.spec))
		n.kernel.LookAtTCP()
		if _, err := n.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		has(t, pods["plain"], world.TCPTimestamps, step.plain)
		has(t, pods["plain"], world.TCPReuse, step.reuse)
		has(t, pods["own"], world.TCPTimestamps, step.own)
		has(t, pods["late"], world.TCPTimestamps, step.late)
		pods["late"].Sysctl(world.TCPTimestamps, other) // it has one of its own from now on
		if t.Failed() {
			t.Fatalf("with %s", step.spec)
		}
	}
}

// An agent that was killed between writing down and setting, in either direction, is
// followed by one that goes on.
func TestTCPIsSetByTheNextAgent(t *testing.T) {
	n := newNode(t, nodes)
	n.start(t)
	_, pod := attach(t, n, "a")
	n.restart(t)
	n.mustTurn(t)
	done := n.podSettings(t) // a line for the boot, and one for the pod
	for _, c := range []struct{ file, now, spec, want string }{
		{strings.Replace(done, `"value":"2"`, `"value":"2","from":"1"`, 1), "1", "{}", "2"},    // not set yet
		{strings.Replace(done, `"value":"2"`, `"value":"2","from":"1"`, 1), "2", "{}", "2"},    // set, and not told
		{strings.Replace(done, `"value":"2"`, `"value":"1","from":"2"`, 1), "2", "{}", "2"},    // about to be put back
		{strings.Replace(done, `"value":"2"`, `"value":"1","from":"2"`, 1), "2", tcpKeep, "1"}, // and still is
		{strings.Replace(done, `"value":"2"`, `"value":"1","from":"2"`, 1), "1", "{}", "2"},    // was, and then wanted again
		{"", "1", "{}", "2"}, {"", "2", "{}", "2"}, {"", "0", "{}", "0"}, {"", "2", tcpKeep, "2"}, // the record is lost
		{done[:len(done)/2], "1", "{}", "2"}, {done[:len(done)/2], "0", "{}", "0"}, {done, "1", "{}", "1"}, // damaged
		{strings.Replace(done, `"boot":"`, `"boot":"another `, 1), "1", "{}", "2"},
	} {
		pod.Sysctl(world.TCPTimestamps, c.now)
		if err := os.WriteFile(settings.Files(n.config.StateDir)[1], []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.file == "" {
			_ = os.Remove(settings.Files(n.config.StateDir)[1])
		}
		n.write(t, "objects.yaml", nodes+"\n---\n"+tcpConfig(c.spec))
		n.restart(t)
		n.mustTurn(t)
		has(t, pod, world.TCPTimestamps, c.want)
		if t.Failed() {
			t.Fatalf("record %q, namespace %s, spec %s", c.file, c.now, c.spec)
		}
	}
}

const tcpKeep = "{podTCPTimestamps: keep}"

// What uninstall sets back is what is still ours.
func TestUninstallSetsPodsTCPBack(t *testing.T) {
	n := newNode(t, nodes, tcpConfig("{podTCPReuse: true}"))
	n.start(t)
	_, plain := attach(t, n, "plain")
	_, own := attach(t, n, "own")
	own.Sysctl(world.TCPTimestamps, "0")
	_, back, err := settings.Before(n.config.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range back {
		if err := sysctl.Apply(s); err != nil {
			t.Error(err)
		}
	}
	has(t, plain, world.TCPTimestamps, "1")
	has(t, plain, world.TCPReuse, "2")
	has(t, own, world.TCPTimestamps, "0")
	has(t, own, world.TCPReuse, "2")
	if _, again, err := settings.Before(n.config.StateDir); len(again) > 0 || err != nil {
		t.Errorf("the second time there is to do: %v, %v", again, err)
	}
}

// The node's own settings come and go with the AgentConfig, and with uninstall.
func TestTCPOfTheNodeFollowsTheConfig(t *testing.T) {
	n := newNode(t, nodes, tcpConfig("{hostTCPTimestamps: monotonic, hostTCPReuse: true}"))
	n.host.Sysctl(world.TCPTimestamps, "0")
	n.mustTurn(t)
	has(t, n.host, world.TCPTimestamps, "2")
	has(t, n.host, world.TCPReuse, "1")
	n.host.Sysctl(world.TCPTimestamps, "1")
	n.looks(t)
	has(t, n.host, world.TCPTimestamps, "2") // what is asked for is kept
	n.write(t, "objects.yaml", nodes)
	n.restart(t)
	n.mustTurn(t)
	has(t, n.host, world.TCPTimestamps, "0")
	has(t, n.host, world.TCPReuse, "2")
	n.write(t, "objects.yaml", nodes+"\n---\n"+tcpConfig("{hostTCPTimestamps: monotonic}"))
	n.mustTurn(t)
	n.setBack(t)
	has(t, n.host, world.TCPTimestamps, "0")
}

// A namespace that refuses is a Problem of its pod, which has its network, and not
// the node's.
func TestANamespaceThatRefusesTCPIsAProblemOfItsPod(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestInMountsOfItsOwn$", "-test.v")
	cmd.Env = append(os.Environ(), "MOUNTS_OF_ITS_OWN=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestInMountsOfItsOwn") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestInMountsOfItsOwn is the process of TestANamespaceThatRefusesTCPIsAProblemOfItsPod.
func TestInMountsOfItsOwn(t *testing.T) {
	if os.Getenv("MOUNTS_OF_ITS_OWN") == "" {
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, nodes)
	n.start(t)
	stubborn, file := netnstest.New(t), "/proc/sys/"+world.TCPTimestamps
	stubborn.Do(func() error {
		if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return unix.Mount("", file, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
	})
	q := cni.Request{ContainerID: "stubborn", Interface: "eth0", Netns: stubborn.Path, Namespace: "default", Pod: "stubborn", Network: "fairlead"}
	if refused := refused(t, n, "add", q); refused.Code != 0 {
		t.Fatalf("the pod is refused: %v", refused)
	}
	_, other := attach(t, n, "other")
	has(t, stubborn, world.TCPTimestamps, "1")
	has(t, other, world.TCPTimestamps, "2")
	s := n.snapshot.Load()
	if !s.Ready || s.Applied != s.Observed || len(s.Failures) > 0 {
		t.Errorf("the node is not as it should be: %+v", s.Reason)
	}
	if len(s.Problems) != 1 || s.Problems[0].Object != "Pod default/stubborn" || !strings.Contains(s.Problems[0].Reason, "read-only") {
		t.Errorf("problems are %v", s.Problems)
	}
	n.looks(t)
	if again := n.snapshot.Load(); len(again.Problems) != 1 {
		t.Errorf("problems become %v", again.Problems)
	}
	stubborn.Do(func() error { return unix.Unmount(file, 0) })
	n.kernel.TryAgain = time.Nanosecond
	n.looks(t)
	has(t, stubborn, world.TCPTimestamps, "2")
	if again := n.snapshot.Load(); len(again.Problems) != 0 {
		t.Errorf("problems stay: %v", again.Problems)
	}
}
