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
		{Dst: prefix("10.1.0.0/16"), Throw: true},
		{Dst: prefix("fd00::/64"), Throw: true, Table: 157159},
		{Dst: prefix("::/0"), Table: 157159},
		{Dst: prefix("0.0.0.0/0"), Table: 157159},
		{Dst: prefix("10.1.0.0/16"), Link: "lo"},
		{Dst: prefix("10.1.0.0/16"), Link: "lo", Via: addr("10.0.0.1"), OnLink: true},
		{Dst: prefix("fd00::/64"), Link: "lo", Via: addr("fe80::1")},
		{Dst: prefix("0.0.0.0/0"), Link: "lo", Via: addr("169.254.2.2"), OnLink: true, Table: 157158},
		{Dst: prefix("::/0"), Table: 157159},
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

// Whatever a kernel answers is a rule that can be compared and removed.
func FuzzRuleFrom(f *testing.F) {
	prefix := netip.MustParsePrefix
	for _, want := range []Rule{
		{Priority: 157, From: prefix("10.1.0.0/16"), Table: 157157},
		{Priority: 157, From: prefix("fd00::/64"), Table: 254},
		{Priority: 1, From: prefix("0.0.0.0/0"), Mark: 0x10, Mask: 0xf0, Table: 7},
		{From: prefix("::/0"), Mask: 1, Table: 7},
		{Priority: 100, From: prefix("fd00::1/128"), To: prefix("fd01::/64"), Table: 254, In: "lo"},
		{Priority: 100, From: prefix("0.0.0.0/0"), To: prefix("10.0.0.0/8"), Mark: 1 << 24, Mask: 0xf << 24, Table: 9},
		{Priority: 159, From: prefix("0.0.0.0/0"), In: "lo", Goto: 161},
		{Priority: 160, From: prefix("::/0"), In: "fl-egress", Mask: 1 << 31, Table: 157159},
		{Priority: 161, From: prefix("::/0"), Nop: true},
	} {
		m, err := AddRule{want, 157}.Message(nil)
		if err != nil {
			f.Fatal(err)
		}
		if got, protocol := ParseRule(m.Data); got != want || protocol != 157 {
			f.Fatalf("%+v is read as %+v of protocol %d", want, got, protocol)
		}
		f.Add(m.Data)
		f.Add(m.Data[:len(m.Data)-3])
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		r, protocol := ParseRule(answer)
		d := DeleteRule{r, protocol}
		m, err := d.Message(nil)
		if err != nil || d.String() == "" {
			t.Fatalf("%+v: %v", r, err)
		}
		if again, _ := ParseRule(m.Data); again.odd == "" && again != r || (again.odd == "") != (r.odd == "") {
			t.Errorf("%+v is asked for as %+v", r, again)
		}
	})
}
