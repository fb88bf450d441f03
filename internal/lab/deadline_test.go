package lab

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// silent ends a test whose wait would never end.
const silent = 20 * time.Second

// A daemon that hangs while it makes the lab is not waited for beyond the time
// that there is, and it is said what it was at.
func TestUpDoesNotWaitForASilentDaemon(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.WriteString(`{"progress": "node n1"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- readSteps(ctx, r, func(string) {}) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "node n1") {
			t.Errorf("it says %v, and not what the daemon was at", err)
		}
	case <-time.After(silent):
		t.Error("it is waited for")
	}
}

// A daemon that takes a question and does not answer is not waited for without end.
func TestNobodyWaitsForASilentDaemon(t *testing.T) {
	t.Parallel()
	l := Lab{Name: "silent", Base: t.TempDir()}
	if err := os.Mkdir(l.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", l.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := l.Status(context.Background())
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "did not answer") {
			t.Errorf("it says %v", err)
		}
	case <-time.After(silent):
		t.Error("it is waited for")
	}
}
