package pod_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/pod"
	"fairlead.dev/fairlead/internal/scenario"
)

func Test(t *testing.T) { scenario.Run(t, pod.Feature) }
