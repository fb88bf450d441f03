package gate_test

import (
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netns"
)

func TestThisKernelRunsGates(t *testing.T) {
	for range 3 {
		now := time.Now()
		if err := netns.Scratch(gate.Probe); err != nil {
			t.Fatalf("%+v", err)
		}
		t.Log(time.Since(now))
	}
}
