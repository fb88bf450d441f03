package link_test

import (
	"testing"

	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/datapath/link"
)

// Where links come and go all the time, most lists are interrupted: what counts is that
// one is whole in the end.
func TestWholeWaitsForOneThatIs(t *testing.T) {
	t.Parallel()
	tries := 0
	got, err := link.Whole(func() (int, error) {
		if tries++; tries < 500 {
			return 0, netlink.ErrDumpInterrupted
		}
		return tries, nil
	})
	if err != nil || got != 500 {
		t.Errorf("after %d tries: %d, %v", tries, got, err)
	}
}
