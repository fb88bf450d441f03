package cli_test

import (
	"bufio"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counted leads to the agent's socket, and counts who comes: the command has a connection for
// each request.
func (s *site) counted() (path string, requests *atomic.Int64) {
	s.t.Helper()
	path, requests = s.path("counted"), new(atomic.Int64)
	l, err := net.Listen("unix", path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			requests.Add(1)
			to, err := net.Dial("unix", s.path("run/agent.sock"))
			if err != nil {
				from.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, from); to.Close() }()
			go func() { _, _ = io.Copy(from, to); from.Close() }()
		}
	}()
	return path, requests
}

// While nothing changes nobody is asked, and what changes is the answer to what was asked
// before.
func TestAWatchAsksOnlyWhenSomethingChanged(t *testing.T) {
	s := newSite(t)
	s.start()
	socket, requests := s.counted()
	cmd := exec.Command(filepath.Join(programs, "fairlead"), "get", "nodes", "-w", "-o", "name", "--socket", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	rows := bufio.NewScanner(out)
	next := func(want string) {
		t.Helper()
		if !rows.Scan() || rows.Text() != want {
			t.Fatalf("%q, want %s", rows.Text(), want)
		}
	}
	next("n1")
	next("n2")
	s.until("it asks again", func() bool { return requests.Load() == 2 })
	quiet := time.Now()
	time.Sleep(7 * time.Second) // in which the agent reconciles by itself, too
	if n := requests.Load(); n != 2 && time.Since(quiet) < 20*time.Second {
		t.Errorf("%d requests while nothing changes, want 2", n)
	}
	for _, name := range []string{"n3", "n4", "n5"} {
		before := requests.Load()
		s.write("objects/"+name+".yaml", strings.ReplaceAll(node(name, []string{"192.0.2.3", "2001:db8::3"}, []string{"10.244.3.0/24", "fd00:10:244:3::/64"}), "3", name[1:]))
		next(name)
		if n := requests.Load() - before; n > 2 { // it may have been about to ask
			t.Errorf("%d requests for one new row", n)
		}
	}
}
