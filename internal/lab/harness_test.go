package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/lab"
	"fairlead.dev/fairlead/internal/netns"
)

// binary is the command under test, built once.
var binary string

func TestMain(m *testing.M) {
	os.Exit(withBinary(m))
}

func withBinary(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "labs need root: run the tests as root")
		return 1
	}
	dir, err := os.MkdirTemp("", "fl-bin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "fairlead")
	build := exec.Command("go", "build", "-o", binary, "fairlead.dev/fairlead/cmd/fairlead")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// testLab is a lab in a directory of its own, taken down at the end of the test.
type testLab struct {
	t    *testing.T
	name string
	dir  string
}

func newLab(t *testing.T, name string) testLab {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l := testLab{t, name, dir}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range []string{"n1", "n2", "n3"} {
				log, _ := os.ReadFile(filepath.Join(dir, name, "nodes", n, "agent.log"))
				t.Logf("agent of %s:\n%s", n, log)
			}
		}
		l.must("down")
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if left := l.leftovers(); len(left) > 0 {
			t.Errorf("the lab left behind: %v", left)
		}
	})
	return l
}

type result struct {
	stdout, stderr string
	code           int
}

func (l testLab) run(args ...string) result {
	l.t.Helper()
	return l.runWith("", args...)
}

// commandPatience bounds every command of a test.
const commandPatience = 3 * time.Minute

func (l testLab) runWith(stdin string, args ...string) result {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"lab", "--name", l.name}, args...)...)
	cmd.Env, cmd.WaitDelay = append(os.Environ(), lab.DirVariable+"="+l.dir), time.Second
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil {
		l.t.Fatalf("%s did not end within %s: %v: %s%s", cmd, commandPatience, err, &out, &said)
	}
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatalf("%s: %v", cmd, err)
	}
	return result{out.String(), said.String(), cmd.ProcessState.ExitCode()}
}

func (l testLab) must(args ...string) string {
	l.t.Helper()
	return l.mustWith("", args...)
}

func (l testLab) mustWith(stdin string, args ...string) string {
	l.t.Helper()
	r := l.runWith(stdin, args...)
	if r.code != 0 {
		l.t.Fatalf("lab %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func (l testLab) status() lab.Status {
	l.t.Helper()
	var s lab.Status
	if err := json.Unmarshal([]byte(l.must("status", "-o", "json")), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l testLab) pod(name string) lab.PodStatus {
	l.t.Helper()
	for _, p := range l.status().Pods {
		if p.Name == name {
			return p
		}
	}
	l.t.Fatalf("there is no pod %s", name)
	return lab.PodStatus{}
}

// leftovers are the lab's namespaces, processes and files.
func (l testLab) leftovers() []string {
	l.t.Helper()
	var out []string
	names, err := os.ReadDir(netns.Dir)
	if err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), "fairlead-"+l.name+"@") && slices.Contains(l.namespaces(), n.Name()) {
			out = append(out, n.Name())
		}
	}
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, e := range environs {
		env, err := os.ReadFile(e)
		if err == nil && bytes.Contains(env, []byte("FAIRLEAD_LAB="+l.dir+"/"+l.name+"\x00")) {
			out = append(out, e)
		}
	}
	if _, err := os.Stat(filepath.Join(l.dir, l.name)); err == nil {
		out = append(out, filepath.Join(l.dir, l.name))
	}
	return out
}

// namespaces are those of labs in the lab's directory.
func (l testLab) namespaces() []string {
	of, err := lab.New(l.name, l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(netns.Dir, lab.Prefix(of)+"*"))
	for i, n := range names {
		names[i] = filepath.Base(n)
	}
	return names
}

const twoPods = `
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  nodeName: n1
  containers: [{name: c, command: [fairlead, lab, echo]}]
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  nodeName: n2
  containers: [{name: c, command: [fairlead, lab, echo]}]
`

// asked is what the server says, once it listens.
func (l testLab) asked(target string, question ...string) string {
	l.t.Helper()
	var r result
	for range 100 {
		r = l.run(append([]string{"exec", target, "--", "fairlead", "lab", "ask"}, question...)...)
		if !strings.Contains(r.stderr, "refused") {
			break
		}
	}
	if r.code != 0 {
		l.t.Fatalf("%s asks %v: %s", target, question, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}
