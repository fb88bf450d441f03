package overlay_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/overlay"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, overlay.Feature) }
