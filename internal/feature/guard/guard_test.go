package guard_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/guard"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, guard.Feature) }
