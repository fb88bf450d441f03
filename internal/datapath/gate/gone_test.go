package gate

import (
	"math"
	"testing"
)

// A link may go between being found and being asked for its programs.
func TestALinkThatWentHasNoPrograms(t *testing.T) {
	if h, err := holding(math.MaxInt32, place{}); err != nil || len(h.ours) > 0 {
		t.Errorf("%+v %v", h, err)
	}
	if err := detachFilter(math.MaxInt32); err != nil {
		t.Error(err)
	}
}
