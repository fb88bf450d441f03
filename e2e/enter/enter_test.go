package enter

import (
	"fmt"
	"os"
	"strings"
	"testing"
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
