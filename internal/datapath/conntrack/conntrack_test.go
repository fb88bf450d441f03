package conntrack

import (
	"net"
	"testing"

	"fairlead.dev/fairlead/internal/netnstest"
)

func TestReadCountsConnections(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	h.Run("nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new accept")
	h.Do(func() error {
		before, err := Read()
		if err != nil {
			return err
		}
		for range 5 {
			c, err := net.Dial("udp", "127.0.0.1:9")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
		}
		after, err := Read()
		if got := after.Entries - before.Entries; got != 5 {
			t.Errorf("%d more entries, want 5", got)
		}
		if after.Max <= 0 || after.InsertFailed != 0 || after.Drop != 0 {
			t.Errorf("counters of a quiet table: %+v", after)
		}
		return err
	})
}

// Counters are sums over CPUs; unknown ones and too little data do no harm.
func FuzzAdd(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 0, 8, 0, statsDrop, 0, 0, 0, 0, 7, 8, 0, 99, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, twice Stats
		err := s.add(b)
		if err != nil {
			return
		}
		for range 2 {
			if err := twice.add(b); err != nil {
				t.Errorf("the second time: %v", err)
			}
		}
		if twice.Drop != 2*s.Drop || twice.InsertFailed != 2*s.InsertFailed {
			t.Errorf("%+v twice is %+v", s, twice)
		}
	})
}
