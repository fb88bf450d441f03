package gate

import (
	"math"
	"testing"
)

// A link may go between being found and being asked for its programs.
func TestALinkThatWentHasNoPrograms(t *testing.T) {
	if programs, _, err := ours(math.MaxInt32, place{}.hook()); err != nil || len(programs) > 0 {
		t.Errorf("%v %v", programs, err)
	}
}
