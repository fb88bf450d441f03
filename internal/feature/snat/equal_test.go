package snat_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/fill"
)

func TestEqualComparesEveryField(t *testing.T) {
	if missed := fill.Compared((*snat.BlockList).Equal); len(missed) > 0 {
		t.Errorf("not compared: %v", missed)
	}
}
