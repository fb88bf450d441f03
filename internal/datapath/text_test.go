package datapath_test

import (
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/netnstest"
)

// What the commands of a state's text make is all of it, and nothing else.
func TestWhatTheTextMakesIsRecognised(t *testing.T) {
	t.Parallel()
	node, pod := netnstest.New(t), netnstest.New(t)
	want := wholeNode(pod.Path)
	want[0].Tables = nil
	for command := range strings.Lines(want.IP()) {
		words := strings.Fields(command)
		if words[0] == "sysctl" { // one setting each
			for _, setting := range words[2:] {
				run(t, node, "sysctl "+setting)
			}
			continue
		}
		run(t, node, command)
	}
	if c := diff(node, want); !c.Empty() {
		t.Errorf("what ip(8), bridge(8) and tc(8) made is not recognised:\n%s", c)
	}
}
