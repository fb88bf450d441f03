package pressure_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/pressure"
)

// Kernels differ, so that the answer is only told. What it stands on, the
// connections without offsets, is part of the probe.
func TestOffsetsAreProbed(t *testing.T) {
	byPort, err := pressure.ProbeOffsets()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("this kernel's timestamps depend on ports: %t", byPort)
	for range 3 {
		if again, err := pressure.ProbeOffsets(); again != byPort || err != nil {
			t.Errorf("asked again: %t, %v", again, err)
		}
	}
}
