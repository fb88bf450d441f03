package conntrack

import (
	"errors"
	"maps"
	"net"
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

// What bears a mark goes, of every protocol and both families, and nothing else.
func TestDeleteMarkedDeletesWhatBearsTheMark(t *testing.T) {
	t.Parallel()
	h := translated(t)
	h.Run("nft", `add chain inet t m { type filter hook output priority 0; };
		add rule inet t m meta l4proto { udp, icmp, icmpv6 } ct mark set ct mark | 0x01000005;
		add rule inet t m meta l4proto tcp ct mark set 0x02000005`)
	h.Do(func() error {
		return errors.Join(ping(near4, far4), ping(near6, far6), knock(near4, far4), knock(near6, far6))
	})
	h.Do(func() error {
		count := func() map[byte]int {
			n := map[byte]int{}
			for _, e := range dump(t, Filter{}) {
				n[e.Protocol]++
			}
			return n
		}
		before := count()
		table, err := Open()
		if err != nil {
			return err
		}
		for _, none := range [][2]uint32{{0, 0}, {0, 1 << 24}, {3, 1}} {
			if table.DeleteMarked(none[0], none[1]) == nil {
				t.Errorf("%#x is deleted by", none)
			}
		}
		if err := table.DeleteMarked(4<<24, 0xff<<24); err != nil || !maps.Equal(before, count()) {
			t.Errorf("%v were there and %v are, though none bears the mark: %v", before, count(), err)
		}
		if err := table.DeleteMarked(1<<24, 0xff<<24); err != nil {
			t.Error(err)
		}
		after := count()
		if after[unix.IPPROTO_ICMP] != 0 || after[unix.IPPROTO_ICMPV6] != 0 || before[unix.IPPROTO_ICMP] == 0 || before[unix.IPPROTO_ICMPV6] == 0 {
			t.Errorf("echoes: %v before, %v after", before, after)
		}
		if before[unix.IPPROTO_UDP]-after[unix.IPPROTO_UDP] != 2 || after[unix.IPPROTO_TCP] != before[unix.IPPROTO_TCP] || after[unix.IPPROTO_UDP] == 0 {
			t.Errorf("%v before, %v after: want two of UDP gone and all of TCP left", before, after)
		}
		return table.Close()
	})
}

// knock sends one packet of UDP.
func knock(from, to netip.Addr) error {
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, service)))
	if err != nil {
		return err
	}
	_, err = c.Write([]byte("x"))
	return errors.Join(err, c.Close())
}
