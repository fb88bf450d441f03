package conntrack

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForgetDeletesWhatIsStaleAndNothingElse(t *testing.T) {
	t.Parallel()
	h := translated(t)
	h.Do(func() error {
		before := dump(t, Filter{})
		table, err := Open()
		if err != nil {
			return err
		}
		n, err := table.Forget(Filter{Protocol: unix.IPPROTO_UDP}, func(e *Entry) bool {
			return e.Original.Destination == netip.AddrPortFrom(far4, service) || e.Original.Destination == netip.AddrPortFrom(far6, service)
		})
		if err := errors.Join(err, table.Close()); err != nil || n != 2*toEach {
			t.Errorf("%d of %d connections deleted, %v", n, 2*toEach, err)
		}
		if after := dump(t, Filter{}); len(after) != len(before)-n {
			t.Errorf("%d connections before, %d forgotten, %d left", len(before), n, len(after))
		}
		if left := dump(t, Filter{Protocol: unix.IPPROTO_UDP}); len(left) != 0 {
			t.Errorf("left are %v", left)
		}
		return nil
	})
}
