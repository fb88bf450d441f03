package tests

import (
	"testing"

	"fairlead.dev/fairlead/e2e/check"
)

// A node that was off has its network again when it is on. The others do not
// notice.
func TestARebootedNodeComesBack(t *testing.T) {
	ns := namespace(t)
	others := begin(t, run(t, ns, "a", "node1"), run(t, ns, "b", "node3"))
	n := shared.Node("node2")
	before := n.BootID()
	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := n.BootID(); after == before || after == "" {
		t.Errorf("the boot id is %s as before", after)
	}
	if err := shared.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if answers, err := check.Connectivity(t.Context(), shared); err != nil {
		t.Errorf("after %d right answers: %v", answers, err)
	}
	others.unharmed()
}
