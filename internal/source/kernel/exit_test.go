package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// The exit is where the best default route leads, with the source that the
// kernel picks there, and follows the route.
func TestExitsFollowTheDefaultRoute(t *testing.T) {
	t.Parallel()
	h, far := netnstest.New(t), netnstest.New(t)
	for _, name := range []string{"eth0", "eth1"} {
		netnstest.Wire(h, name, far, name)
	}
	h.Address("eth0", "10.9.0.1/24", "192.0.2.1/24", "2001:db8::1/64")
	h.Address("eth1", "198.51.100.1/24")
	check := func(when string, want ...world.Exit) {
		t.Helper()
		var got []world.Exit
		h.Do(func() (err error) {
			got, _, err = exits()
			return err
		})
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
	}
	addr := netip.MustParseAddr
	six := world.Exit{Interface: "eth0", Address: addr("2001:db8::1"), Gateway: addr("fe80::9"), MTU: 1500}
	check("without a default route")
	h.Run("ip", "route", "add", "default", "via", "192.0.2.9", "metric", "20")
	h.Run("ip", "-6", "route", "add", "default", "via", "fe80::9", "dev", "eth0")
	check("with one of each family", world.Exit{Interface: "eth0", Address: addr("192.0.2.1"), Gateway: addr("192.0.2.9"), MTU: 1500}, six)
	h.Run("ip", "route", "add", "default", "dev", "eth1", "metric", "10")
	check("with a better one", world.Exit{Interface: "eth1", Address: addr("198.51.100.1"), MTU: 1500}, six)
	h.Run("ip", "route", "replace", "default", "via", "10.9.0.9", "metric", "10", "src", "192.0.2.1")
	h.Run("ip", "-6", "route", "del", "default")
	check("with a source of its own", world.Exit{Interface: "eth0", Address: addr("192.0.2.1"), Gateway: addr("10.9.0.9"), MTU: 1500})
	h.Run("ip", "route", "del", "default", "metric", "10")
	h.Run("ip", "link", "set", "eth0", "mtu", "1400")
	h.Run("ip", "route", "replace", "default", "metric", "20", "nexthop", "via", "198.51.100.9", "nexthop", "via", "192.0.2.9")
	check("with several next hops", world.Exit{Interface: "eth1", Address: addr("198.51.100.1"), Gateway: addr("198.51.100.9"), MTU: 1400})
}

// Every interface with a default route is an uplink, with the source that packets of
// the node get there, and whether masquerade would not find it.
func TestUplinksHaveTheRoutesSources(t *testing.T) {
	t.Parallel()
	h, far := netnstest.New(t), netnstest.New(t)
	for _, name := range []string{"eth0", "eth1"} {
		netnstest.Wire(h, name, far, name)
	}
	h.Address("lo", "203.0.113.1/32")
	h.Address("eth0", "192.0.2.1/24", "192.0.2.5/24", "10.9.0.1/24", "2001:db8::1/64", "2001:db8::5/64")
	h.Address("eth1", "198.51.100.1/31")
	addr := netip.MustParseAddr
	check := func(when string, want ...world.Uplink) {
		t.Helper()
		var got []world.Uplink
		h.Do(func() (err error) {
			_, got, err = exits()
			return err
		})
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
	}
	check("without a default route")
	h.Run("ip", "route", "replace", "default", "via", "192.0.2.9")
	check("that says nothing", world.Uplink{Interface: "eth0", Address: addr("192.0.2.1")})
	h.Run("ip", "route", "replace", "default", "via", "192.0.2.9", "src", "192.0.2.1")
	check("that says what masquerade takes too", world.Uplink{Interface: "eth0", Address: addr("192.0.2.1")})
	h.Run("ip", "route", "replace", "default", "via", "10.9.0.9", "src", "10.9.0.1")
	check("likewise, of the next hop's network", world.Uplink{Interface: "eth0", Address: addr("10.9.0.1")})
	h.Run("ip", "route", "replace", "default", "via", "192.0.2.9", "src", "192.0.2.5")
	check("that says another", world.Uplink{Interface: "eth0", Address: addr("192.0.2.5"), Said: true})
	h.Run("ip", "route", "replace", "default", "src", "203.0.113.1", "nexthop", "via", "198.51.100.0", "nexthop", "via", "192.0.2.9")
	h.Run("ip", "route", "add", "default", "via", "192.0.2.9", "metric", "10")
	h.Run("ip", "-6", "route", "add", "default", "via", "fe80::9", "dev", "eth0", "src", "2001:db8::5")
	check("by two uplinks, the address on the loopback", world.Uplink{Interface: "eth1", Address: addr("203.0.113.1"), Said: true},
		world.Uplink{Interface: "eth0", Address: addr("203.0.113.1"), Said: true}, world.Uplink{Interface: "eth0", Address: addr("2001:db8::5"), Said: true})
}
