package neigh

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// Whatever a kernel answers, an entry is whole or none.
func FuzzFrom(f *testing.F) {
	c, err := rtnl.Dial()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	want := Neighbour{Link: "lo", Addr: rtnl.Addr([]byte{10, 0, 0, 1}), MAC: [6]byte{2}}
	m, err := Add(want).Message(c)
	if err != nil {
		f.Fatal(err)
	}
	if got, ok := from(c, m.Data); !ok || got != want {
		f.Fatalf("%+v is read as %+v, %v", want, got, ok)
	}
	f.Add(m.Data)
	f.Fuzz(func(t *testing.T, answer []byte) {
		if n, ok := from(c, answer); ok && (!n.Addr.IsValid() || Add(n).String() == "") {
			t.Errorf("%+v", n)
		}
	})
}

// Whatever a kernel answers, a proxy is one of an address or none.
func FuzzProxyFrom(f *testing.F) {
	c, err := rtnl.Dial()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
		want := Proxy{Link: "lo", Addr: netip.MustParseAddr(address)}
		m, err := want.message(c, unix.RTM_NEWNEIGH, 157)
		if err != nil {
			f.Fatal(err)
		}
		if got, by, ok := proxyFrom(c, m.Data); !ok || got != want || by != 157 {
			f.Fatalf("%+v is read as %+v of protocol %d, %v", want, got, by, ok)
		}
		f.Add(m.Data)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if p, by, ok := proxyFrom(c, answer); ok && (!p.Addr.IsValid() || (AddProxy{p, by}).String() == "") {
			t.Errorf("%+v", p)
		}
	})
}
