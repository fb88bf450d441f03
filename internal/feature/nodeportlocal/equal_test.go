package nodeportlocal_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/fill"
)

func TestEqualComparesEveryField(t *testing.T) {
	if missed := fill.Compared((*nodeportlocal.NodePorts).Equal); len(missed) > 0 {
		t.Errorf("not compared: %v", missed)
	}
}
