package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
)

// idleConnections stay open, and silent, while the agent dies and comes back.
const idleConnections = 1000

// patience bounds every step of the traffic; nothing here is measured.
const patience = 30 * time.Second

// listen opens a TCP listener inside the namespace at path.
func listen(t *testing.T, path, address string) net.Listener {
	t.Helper()
	var l net.Listener
	if err := netns.Do(path, func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dial connects from inside the namespace at path to a listener.
func dial(t *testing.T, path string, to net.Listener) (near, far net.Conn) {
	t.Helper()
	err := netns.Do(path, func() (err error) {
		near, err = net.DialTimeout("tcp", to.Addr().String(), patience)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if far, err = to.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// A stream is bytes that follow a pattern, from one end of a connection to the
// other, until it is told to stop.
type stream struct {
	stop chan struct{}
	sent chan int64
	got  chan error
	seen chan int64 // progress, at every mebibyte
}

var pattern = bytes.Repeat([]byte("all's well and every byte is in its place; "), 1<<10)

func startStream(near, far net.Conn) *stream {
	s := &stream{make(chan struct{}), make(chan int64, 1), make(chan error, 1), make(chan int64, 1<<20)}
	go s.write(near)
	go s.read(far)
	return s
}

func (s *stream) write(c net.Conn) {
	var n int64
	for {
		select {
		case <-s.stop:
			s.sent <- n
			_ = c.(*net.TCPConn).CloseWrite() // the reader says what is missing
			return
		default:
		}
		k, err := c.Write(pattern)
		n += int64(k)
		if err != nil {
			s.sent <- n
			return
		}
	}
}

func (s *stream) read(c net.Conn) {
	block, n := make([]byte, len(pattern)), int64(0)
	for {
		k, err := io.ReadFull(c, block)
		if !bytes.Equal(block[:k], pattern[:k]) {
			s.got <- fmt.Errorf("a byte between %d and %d is not what was sent", n, n+int64(k))
			return
		}
		if n>>20 != (n+int64(k))>>20 {
			s.seen <- n
		}
		n += int64(k)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			s.seen <- n
			s.got <- nil
			close(s.seen)
			return
		}
		if err != nil {
			s.got <- err
			return
		}
	}
}

// flow waits until some more mebibytes have arrived.
func (s *stream) flow(t *testing.T, mebibytes int) {
	t.Helper()
	timeout := time.After(patience)
	for range mebibytes {
		select {
		case <-s.seen:
		case err := <-s.got:
			t.Fatalf("the stream ended: %v", err)
		case <-timeout:
			t.Fatal("the stream stands still")
		}
	}
}

// end stops the stream and checks that what was sent has arrived.
func (s *stream) end(t *testing.T) {
	t.Helper()
	close(s.stop)
	sent := <-s.sent
	if err := <-s.got; err != nil {
		t.Fatal(err)
	}
	var last int64
	for n := range s.seen {
		last = n
	}
	if last != sent {
		t.Errorf("%d bytes sent, %d arrived", sent, last)
	}
}

func TestAgentKilledDuringTraffic(t *testing.T) {
	l := newLab(t, "crash")
	l.must("up")
	l.mustWith(`
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default}
spec: {nodeName: n1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: default}
spec: {nodeName: n2, containers: [{name: c}]}
`, "apply", "-f", "-")
	a, b, web := l.pod("a"), l.pod("b"), l.status().Hosts[0]
	outside := listen(t, web.Netns, "198.51.100.10:7000")
	inside := listen(t, b.Netns, net.JoinHostPort(b.PodIPs[1], "7000"))

	streams := []*stream{startStream(dial(t, a.Netns, outside)), startStream(dial(t, a.Netns, inside))}
	idle := make([][2]net.Conn, idleConnections)
	for i := range idle {
		near, far := dial(t, a.Netns, outside)
		idle[i] = [2]net.Conn{near, far}
	}
	flow := func() {
		for _, s := range streams {
			s.flow(t, 5)
		}
	}
	flow()
	l.must("agent", "kill", "n1")
	flow()
	log := filepath.Join(l.dir, l.name, "nodes", "n1", "agent.log")
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	l.must("agent", "start", "n1")
	l.must("wait")
	flow()
	for _, s := range streams {
		s.end(t)
	}
	for i, c := range idle {
		if err := speak(c[0], c[1]); err != nil {
			t.Fatalf("idle connection %d: %v", i, err)
		}
	}

	if d := l.must("exec", "node/n1", "--", "fairlead", "diff"); d != "" {
		t.Errorf("after the restart the kernel lacks:\n%s", d)
	}
	after, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if said := strings.TrimPrefix(string(after), string(before)); !strings.Contains(said, "ready=true") || strings.Contains(said, "msg=applied") {
		t.Errorf("the restarted agent did not take over without a rewrite:\n%s", said)
	}
}

// speak passes one byte each way.
func speak(near, far net.Conn) error {
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		if _, err := way[0].Write([]byte{42}); err != nil {
			return err
		}
		if err := way[1].SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := way[1].Read(make([]byte, 1)); err != nil {
			return err
		}
	}
	return nil
}
