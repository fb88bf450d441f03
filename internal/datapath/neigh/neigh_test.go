package neigh

import (
	"testing"

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
