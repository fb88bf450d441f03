package nodeportlocal_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, nodeportlocal.Feature) }
