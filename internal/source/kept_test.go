package source

import (
	"testing"

	"fairlead.dev/fairlead/internal/fill"
)

func TestEqualComparesEveryField(t *testing.T) {
	if missed := fill.Compared((*Claims).Equal); len(missed) > 0 {
		t.Errorf("not compared: %v", missed)
	}
}
