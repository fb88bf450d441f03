package snat

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// An address stands in a rule where it is the interface's only one and stays.
func TestTheOnlyAddressOfAnInterface(t *testing.T) {
	const mine, other, leased = "2001:db8::1", "2001:db8:7::1", "2001:db8:8::1"
	dev := func(name string, addresses ...string) world.Interface {
		i := world.Interface{Name: name}
		for _, a := range append(addresses, "192.0.2.1", "fe80::1") {
			addr := netip.MustParseAddr(a)
			i.Addresses = append(i.Addresses, netip.PrefixFrom(addr, addr.BitLen()))
			if a == leased {
				i.Fleeting = append(i.Fleeting, addr)
			}
		}
		return i
	}
	with := func(i world.Interface, set func(*world.Interface)) world.Interface {
		set(&i)
		return i
	}
	as := func(link, address string) way { return way{netip.MustParseAddr(address), link, true} }
	said := world.Uplink{Interface: "eth0", Address: netip.MustParseAddr(other), Said: true}
	for name, c := range map[string]struct {
		interfaces []world.Interface
		uplinks    []world.Uplink
		block      int
		want       []way
	}{
		"one":                          {interfaces: []world.Interface{dev("eth0", mine)}, want: []way{as("eth0", mine)}},
		"of two it is the kernel's":    {interfaces: []world.Interface{dev("eth0", mine, other)}},
		"it may go":                    {interfaces: []world.Interface{dev("eth0", leased)}},
		"another one may go":           {interfaces: []world.Interface{dev("eth0", mine, leased)}},
		"none":                         {interfaces: []world.Interface{dev("eth0")}},
		"loopback":                     {interfaces: []world.Interface{dev("lo", mine)}},
		"a bridge has the route":       {interfaces: []world.Interface{with(dev("eth0", mine), func(i *world.Interface) { i.Port = true })}},
		"down":                         {interfaces: []world.Interface{with(dev("eth0", mine), func(i *world.Interface) { i.Down = true })}},
		"the route says another":       {interfaces: []world.Interface{dev("eth0", mine), dev("lo", other)}, uplinks: []world.Uplink{said}, want: []way{as("eth0", other)}},
		"the route says what is there": {interfaces: []world.Interface{dev("eth0", mine)}, uplinks: []world.Uplink{{Interface: "eth0", Address: netip.MustParseAddr(mine)}}, want: []way{as("eth0", mine)}},
		"a block has it": {interfaces: []world.Interface{dev("eth0", mine), dev("eth1", other)}, block: 512,
			uplinks: []world.Uplink{{Interface: "eth0", Address: netip.MustParseAddr(mine)}}, want: []way{as("eth1", other)}},
		"the machine's own first, four at most": {
			interfaces: []world.Interface{dev("br0", "2001:db8::b0"), dev("br1", "2001:db8::b1"), dev("br2", "2001:db8::b2"), dev("br3", "2001:db8::b3"),
				with(dev("eth0", mine), func(i *world.Interface) { i.Hardware = true })},
			want: []way{as("eth0", mine), as("br0", "2001:db8::b0"), as("br1", "2001:db8::b1"), as("br2", "2001:db8::b2")}},
	} {
		t.Run(name, func(t *testing.T) {
			w := aWorld(c.block, 0)
			w.Kernel.Interfaces, w.Kernel.Uplinks = c.interfaces, c.uplinks
			for _, u := range c.uplinks {
				w.Kernel.Exits = append(w.Kernel.Exits, world.Exit{Interface: u.Interface, Address: u.Address})
			}
			if d := cmp.Diff(c.want, saidWays(w, nft.IPv6), cmp.Comparer(func(a, b way) bool { return a == b })); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if len(saidWays(w, nft.IPv4)) > 0 {
				t.Errorf("IPv4: %v", saidWays(w, nft.IPv4))
			}
		})
	}
}
