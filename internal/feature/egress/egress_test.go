package egress_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/egress"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, egress.Feature) }
