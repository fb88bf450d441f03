package snat

import (
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/pressure"
)

// Ports run short at half of them, and are plenty again when as many connections
// would leave half of them free with the longer time.
func TestWhenPortsRunShort(t *testing.T) {
	at := func(fill float64) pressure.Status {
		return pressure.Status{Ratios: pressure.Ratios{unix.IPPROTO_TCP: fill, unix.IPPROTO_UDP: 1}}
	}
	for _, c := range []struct {
		did  bool
		fill float64
		want bool
	}{{false, 0, false}, {false, 0.49, false}, {false, 0.5, true}, {true, 0.5, true}, {true, 0.05, true}, {true, 0.0042, true}, {true, 0.0041, false}, {true, 0, false}} {
		if got := runShort(c.did, at(c.fill)); got != c.want {
			t.Errorf("did %v, at %v: %v, want %v", c.did, c.fill, got, c.want)
		}
	}
	if runShort(false, pressure.Status{}) {
		t.Error("ports that nobody counted run short")
	}
}
