package tests

import (
	"testing"

	"fairlead.dev/fairlead/e2e/check"
)

// A node that was off has its network again when it is on.
func TestARebootedNodeComesBack(t *testing.T) {
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
}
