package netnstest

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A recorder is a test that may fail without the test failing.
type recorder struct {
	*testing.T
	failure string
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// What a program leaves behind may hold its output open; that is a failure, and
// not the end of time.
func TestRunDoesNotWaitForWhatAProgramLeftBehind(t *testing.T) {
	r := &recorder{T: t}
	h := New(r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Run("sh", "-c", "sleep 60 &")
	}()
	select {
	case <-done:
		if !strings.Contains(r.failure, exec.ErrWaitDelay.Error()) {
			t.Errorf("it says %q", r.failure)
		}
	case <-time.After(40 * time.Second):
		t.Error("it is waited for")
	}
}
