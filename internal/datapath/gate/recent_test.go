package gate_test

import (
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/gate"
)

// Who is taken from the list is refused from then on, also while he sends, and is let
// in after more changes than there are generations.
func TestNobodyIsRememberedWhoWasTakenFromTheList(t *testing.T) {
	t.Parallel()
	// Two of them have one slot.
	const first, same, other = "10.244.1.7", "10.244.7.1", "10.244.2.9"
	all := gate.Gate{Link: "fl-many", Set: true, Sources: prefixes("10.244.1.0/24", "10.244.2.0/24", "10.244.7.0/24")}
	rest := all
	rest.Sources = prefixes("10.244.2.0/24", "10.244.7.0/24")
	d := newDoor(t, all)
	frame := func(from string) []byte { return ether(ipv4(from, "10.9.9.9"), typ4) }
	var over atomic.Bool
	sent := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := pin()
		for !over.Load() && err == nil {
			err = d.send(frame(first))
		}
		sent <- err
	}()
	for range 10 {
		d.apply([]gate.Gate{all}, rest)
		d.awaitRefusals(1) // what came before is through
		d.drain()
		d.awaitRefusals(5)
		if d.waits(typ4, 0) {
			t.Fatal("who was taken from the list is let in")
		}
		d.apply([]gate.Gate{rest}, all)
		if !d.waits(typ4, within) {
			t.Fatal("who came back is not let in")
		}
	}
	over.Store(true)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	for range 300 {
		d.apply([]gate.Gate{all}, rest)
		d.apply([]gate.Gate{rest}, all)
	}
	d.meet()
	d.counts()
	for range 3 {
		for _, from := range []string{first, same, other, first} {
			if got := d.try(frame(from)); got != passes(typ4) {
				t.Errorf("%s: %+v", from, got)
			}
		}
		if got := d.try(frame("10.244.3.1")); got != forged() {
			t.Errorf("%+v", got)
		}
	}
}

// awaitRefusals returns when so many more frames were refused.
func (d *door) awaitRefusals(n uint64) {
	d.t.Helper()
	began := time.Now()
	for refused := uint64(0); refused < n; refused += d.counts()[gate.Forged] {
		if time.Since(began) > within {
			d.t.Fatal("nothing is refused")
		}
	}
}

// Slots are as the addresses lead to them: whatever an address is, it is found if it is
// on the list only.
func TestEveryAddressHasItsSlot(t *testing.T) {
	t.Parallel()
	g := gate.Gate{Link: "fl-many", Set: true, Sources: prefixes("10.0.0.0/9", "192.0.2.0/25", "203.0.113.255/32")}
	d := newDoor(t, g)
	for _, low := range []byte{0, 1, 0x7f, 0x80, 0xff} {
		for _, high := range []byte{0, 0x7f, 0x80, 0xff} {
			for range 2 { // looked up, then remembered
				a := netip.AddrFrom4([4]byte{10, high, low, low ^ high})
				want := forged()
				if high < 0x80 {
					want = passes(typ4)
				}
				if got := d.try(ether(ipv4(a.String(), "10.9.9.9"), typ4)); got != want {
					t.Errorf("%s: %+v, want %+v", a, got, want)
				}
			}
		}
	}
}
