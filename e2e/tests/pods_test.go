package tests

import (
	"testing"

	"fairlead.dev/fairlead/e2e/check"
)

func TestPodsReachEachOther(t *testing.T) {
	answers, err := check.Connectivity(t.Context(), shared)
	t.Logf("%d right answers", answers)
	if err != nil {
		t.Error(err)
	}
}
