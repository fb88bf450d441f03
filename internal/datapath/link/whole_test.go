package link_test

import (
	"testing"
	"testing/synctest"
	"time"

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

// Where much is listed one list takes as long as many short ones may, and is asked for again
// all the same.
func TestWholeAsksForLongListsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		_, err := link.Whole(func() (int, error) {
			time.Sleep(10 * time.Second)
			if tries++; tries < 10 {
				return 0, netlink.ErrDumpInterrupted
			}
			return tries, nil
		})
		if err != nil || tries != 10 {
			t.Errorf("after %d tries: %v", tries, err)
		}
		begun := time.Now()
		if _, err := link.Whole(func() (int, error) { time.Sleep(time.Second); return 0, netlink.ErrDumpInterrupted }); err == nil || time.Since(begun) > time.Minute {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}
