package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairlead.dev/fairlead/e2e/enter"
)

// A flow is a stream, a thousand connections and numbered datagrams from one pod
// to another. Its processes are the test's own, in the pods' network namespaces:
// what happens to the kubelet, the container runtime and the API server does not
// happen to them.
type flow struct {
	t      *testing.T
	what   string
	client *enter.Cmd
	said   *bytes.Buffer
}

// report is what command traffic prints.
type report struct {
	Connections  int
	Broken       []string
	StreamBytes  int64
	StreamBroken string
	StreamStall  time.Duration
	Sent         int
	Lost         int
	LostInARow   int
}

const connections = "1000"

// begin starts a flow, and returns when all of it flows.
func begin(t *testing.T, from, to *pod) *flow {
	t.Helper()
	carry(t, from.node)
	carry(t, to.node)
	server := to.inside(t, traffic, "server", "9000")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	address := fmt.Sprintf("%s:9000", to.address)
	until(t, "the server of "+to.name+" answers", func() error {
		_, err := from.inside(t, "timeout", "10", "bash", "-c", "exec 3<>/dev/tcp/"+to.address+"/9000").Output()
		return err
	})
	f := &flow{t: t, what: from.name + " → " + to.name, said: &bytes.Buffer{}}
	f.client = from.inside(t, traffic, "client", address, connections)
	flowing := &announcement{of: "flowing", made: make(chan struct{})}
	f.client.Stdout, f.client.Stderr = f.said, flowing
	if err := f.client.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = f.client.Process.Kill() // it may have ended
		_ = f.client.Wait()
	})
	select {
	case <-flowing.made:
	case <-f.client.Ended():
		t.Fatalf("%s: %v: %s", f.what, f.client.Wait(), flowing)
	case <-time.After(flowPatience):
		t.Fatalf("%s: not all of it flows within %s, and the client says %q", f.what, flowPatience, flowing)
	}
	return f
}

// How long a flow may take to begin, and to end: its connections have minutes for
// an answer.
const (
	flowPatience = 2 * time.Minute
	endPatience  = 3 * time.Minute
)

// An announcement is what a process says until, and after, it says a word.
type announcement struct {
	of   string
	made chan struct{} // closed when the word is said
	mu   sync.Mutex    // guards said
	said []byte
}

func (a *announcement) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := bytes.Contains(a.said, []byte(a.of))
	a.said = append(a.said, b...)
	if !before && bytes.Contains(a.said, []byte(a.of)) {
		close(a.made)
	}
	return len(b), nil
}

func (a *announcement) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(a.said)
}

// unharmed ends the flow and says what was lost.
func (f *flow) unharmed() {
	f.t.Helper()
	if err := f.client.Process.Signal(syscall.SIGTERM); err != nil {
		f.t.Fatal(err)
	}
	select {
	case <-f.client.Ended():
	case <-time.After(endPatience):
		f.t.Fatalf("%s: the client was asked to end, and has not within %s", f.what, endPatience)
	}
	if err := f.client.Wait(); err != nil {
		f.t.Fatalf("%s: %v", f.what, err)
	}
	var r report
	if err := json.Unmarshal(f.said.Bytes(), &r); err != nil {
		f.t.Fatal(err)
	}
	f.t.Logf("%s: %d connections, %d broken; stream of %.1f MB, longest stall %s; %d datagrams, %d lost (%d in a row)", f.what,
		r.Connections, len(r.Broken), float64(r.StreamBytes)/1e6, r.StreamStall.Round(time.Millisecond), r.Sent, r.Lost, r.LostInARow)
	if len(r.Broken) > 0 {
		f.t.Errorf("%s: %d of %d connections broke, the first: %s", f.what, len(r.Broken), r.Connections, r.Broken[0])
	}
	if r.StreamBroken != "" || r.StreamBytes == 0 {
		f.t.Errorf("%s: the stream broke after %d bytes: %s", f.what, r.StreamBytes, r.StreamBroken)
	}
	if r.Lost > 0 {
		f.t.Errorf("%s: %d of %d datagrams were lost", f.what, r.Lost, r.Sent)
	}
}

// traffic is where the nodes have the command.
const traffic = "/var/tmp/fairlead-traffic"

// compilePatience bounds the compiling of what a test needs.
const compilePatience = 10 * time.Minute

// compiled is the command traffic.
var compiled = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "fairlead-traffic")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary one
	file := filepath.Join(dir, "traffic")
	ctx, cancel := context.WithTimeout(context.Background(), compilePatience)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", file, "fairlead.dev/fairlead/e2e/cmd/traffic")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build, within %s: %w: %s", compilePatience, err, out)
	}
	return os.ReadFile(file)
})

// carry puts the command on the node.
func carry(t *testing.T, node string) {
	t.Helper()
	program, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	put := shared.Node(node).Command(t.Context(), "bash", "-c", "[ -x $1 ] || { cat > $1.new && chmod +x $1.new && mv $1.new $1; }", "carry", traffic)
	put.Stdin = bytes.NewReader(program)
	if _, err := put.Output(); err != nil {
		t.Fatal(err)
	}
}

const untilPatience = 3 * time.Minute

// until waits for f to have no error, and fails with the last.
func until(t *testing.T, what string, f func() error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), untilPatience)
	defer stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s: %v", untilPatience, what, err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}
