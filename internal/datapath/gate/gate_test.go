package gate_test

import (
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netns"
)

func TestThisKernelRunsGates(t *testing.T) {
	for _, probe := range []func() error{gate.Probe, gate.ProbeEgress, gate.Probe} {
		now := time.Now()
		if err := netns.Scratch(probe); err != nil {
			t.Fatalf("%+v", err)
		}
		t.Log(time.Since(now))
	}
}
