package hostport_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/hostport"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, hostport.Feature) }
