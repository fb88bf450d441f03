package route

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

func read(c *rtnl.Conn, answer []byte) Route {
	h, attrs := rtnl.Parse[unix.RtMsg](answer)
	return from(c, h, attrs)
}

// Whatever a kernel answers is a route that can be compared and deleted.
func FuzzFrom(f *testing.F) {
	c, err := rtnl.Dial()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for _, want := range []Route{
		{Dst: prefix("10.1.0.0/16")},
		{Dst: prefix("fd00::/64")},
		{Dst: prefix("10.1.0.0/16"), Link: "lo"},
		{Dst: prefix("10.1.0.0/16"), Link: "lo", Via: addr("10.0.0.1"), OnLink: true},
		{Dst: prefix("fd00::/64"), Link: "lo", Via: addr("fe80::1")},
	} {
		m, err := Add{Route: want}.Message(c)
		if err != nil {
			f.Fatal(err)
		}
		if got := read(c, m.Data); got != want {
			f.Fatalf("%+v is read as %+v", want, got)
		}
		f.Add(m.Data)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		r := read(c, answer)
		if _, err := (Delete{Route: r}).Message(c); err != nil || r.Key() != r.Key().Key() {
			t.Errorf("%+v: %v", r, err)
		}
	})
}
