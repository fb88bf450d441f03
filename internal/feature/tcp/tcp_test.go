package tcp_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/tcp"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, tcp.Feature) }
