package snat_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, snat.Feature) }
