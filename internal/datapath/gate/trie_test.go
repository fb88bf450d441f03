package gate_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// A list of sources is one of prefixes of any length, of each family by itself.
func TestWhatComesThroughAGateWithAList(t *testing.T) {
	t.Parallel()
	some := prefixes("10.244.0.0/16", "172.16.0.0/12", "192.0.2.2/31", "198.51.100.7/32", "8.0.0.0/8", "2001:db8::/64", "fd00::/8", "2001:db8:1::7/128", "2001:db8:2::2/127")
	for _, c := range []struct {
		sources         []netip.Prefix
		inside, outside []string
	}{
		{some,
			[]string{"10.244.0.0", "10.244.255.255", "172.31.1.1", "192.0.2.2", "192.0.2.3", "198.51.100.7", "8.255.0.1", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "fdff::1", "2001:db8:1::7", "2001:db8:2::3"},
			[]string{"10.243.255.255", "10.245.0.0", "172.32.0.0", "192.0.2.1", "192.0.2.4", "198.51.100.6", "7.255.255.255", "9.0.0.0", "0.0.0.0", "2001:db8:0:1::", "2001:db7:ffff::", "fc00::1", "fe00::1", "2001:db8:1::6", "2001:db8:2::1", "2001:db8:2::4", "::", "fe80::1", "::ffff:10.244.0.1"}},
		{prefixes("::/0", "10.244.0.1/32", "10.244.0.2/32"), []string{"::", "::1:2", "2001:db8::1", "::ffff:192.0.2.1", "10.244.0.1"}, []string{"192.0.2.1", "0.0.0.0", "10.244.0.3"}},
		{prefixes("::8000:0:0/81", "fd00::/8", "fe80::/10"), []string{"::ffff:1.2.3.4", "fd00::1"}, []string{"1.2.3.4", "::1.2.3.4"}},
		{prefixes("0.0.0.0/0", "fd00::1/128", "fd00::2/128"), []string{"0.0.0.0", "192.0.2.1", "255.255.255.255", "fd00::1"}, []string{"::ffff:192.0.2.1", "::192.0.2.1", "::", "fd00::3"}},
		{prefixes("0.0.0.0/1", "10.0.0.0/8", "10.244.0.0/16", "10.244.1.0/24", "::/1", "2001::/16", "2001:db8::/32"), []string{"127.9.9.9", "10.1.1.1", "10.244.9.9", "10.244.1.1", "7fff::", "2001::1", "2001:db8::1"}, []string{"128.0.0.0", "8000::"}},
		// As many as are part of the instructions.
		{prefixes("10.244.0.0/15", "fd00::/8"), []string{"10.245.255.255", "fdff::"}, []string{"10.246.0.0", "10.243.255.255", "fe00::", "::10.244.0.1"}},
		{prefixes("0.0.0.0/0"), []string{"255.0.0.1"}, []string{"::"}},
		{prefixes("::/0"), []string{"::", "ffff::"}, []string{"192.0.2.1"}},
		{prefixes("192.0.2.2/31", "2001:db8:0:1::/65"), []string{"192.0.2.3", "2001:db8:0:1:7fff::"}, []string{"192.0.2.4", "2001:db8:0:1:8000::"}},
	} {
		t.Run(fmt.Sprint(c.sources), func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, gate.Gate{Link: "fl-many", Sources: c.sources, Set: len(c.sources) > 2})
			for in, addresses := range map[bool][]string{true: c.inside, false: c.outside} {
				for _, a := range addresses {
					frame, typ := ether(ipv4From(a), typ4), typ4
					if netip.MustParseAddr(a).Is6() {
						frame, typ = ether(ipv6(a, udp), typ6), typ6
					}
					want := map[bool]outcome{true: passes(typ), false: forged()}[in]
					if got := d.try(frame); got != want {
						t.Errorf("%s: %+v, want %+v", a, got, want)
					}
				}
			}
		})
	}
}

// ipv4From is a packet from a, if that is an IPv4 address.
func ipv4From(a string) []byte {
	if netip.MustParseAddr(a).Is6() {
		return nil
	}
	return ipv4(a, "10.244.1.9")
}

// Sources that stay lose nothing while others come and go.
func TestSourcesComeAndGoBesideThoseThatStay(t *testing.T) {
	t.Parallel()
	// The others stand between, around and inside of those that stay, and split their
	// ways in the trie.
	stay := prefixes("10.244.1.0/24", "10.244.2.128/25", "fd00:1::/64")
	come := prefixes("10.244.0.0/16", "10.244.1.7/32", "10.244.0.0/24", "10.0.0.0/8", "10.244.2.128/32", "0.0.0.0/0", "fd00:1::7/128", "fd00::/16", "::/0", "fd00:1:0:1::/64")
	g := gate.Gate{Link: "fl-many", Sources: stay, Set: true}
	d := newDoor(t, g)
	var over atomic.Bool
	sent := make(chan error, 1)
	frames := [][]byte{ether(ipv4("10.244.1.7", "10.9.9.9"), typ4), ether(ipv4("10.244.2.128", "10.9.9.9"), typ4), ether(ipv6("fd00:1::7", udp), typ6)}
	go func() {
		var err error
		for i := 0; !over.Load() && err == nil; i++ {
			err = d.send(frames[i%len(frames)])
		}
		sent <- err
	}()
	const times = 300
	have := g
	for i := range times {
		want := gate.Gate{Link: g.Link, Sources: slices.Concat(stay, come[:1+i%len(come)]), Set: true}
		d.apply([]gate.Gate{have}, want)
		d.apply([]gate.Gate{want}, g)
		have = g
	}
	over.Store(true)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	d.drain()
	if got := d.try(frames[0]); got.refused != (gate.Counts{}) {
		t.Errorf("refused %v", got.refused)
	}
	if got := d.try(ether(ipv4("10.9.9.9", "10.9.9.8"), typ4)); got != forged() {
		t.Errorf("what went is let in: %+v", got)
	}
}

// How long a list of the size of a very large cluster takes.
func TestAListOfTwentyThousand(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	netnstest.Wire(h, "fl-many", h, "other")
	g := gate.Gate{Link: "fl-many", Set: true}
	for i := range 20_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		g.Sources = append(g.Sources, netip.PrefixFrom(a, 24))
	}
	err := netns.Do(h.Path, func() error {
		began := time.Now()
		if err := change(nil, []gate.Gate{g}); err != nil {
			return err
		}
		t.Logf("attach: %s", time.Since(began))
		began = time.Now()
		have, err := gate.Read(g.Link)
		t.Logf("read: %s", time.Since(began))
		if err != nil {
			return err
		}
		more := gate.Gate{Link: g.Link, Sources: append(slices.Clone(g.Sources), single("192.0.2.1")), Set: true}
		for name, from := range map[string][]gate.Gate{"known": {g}, "read": have} {
			began = time.Now()
			add, del := gate.Diff(from, []gate.Gate{more}, func(string) bool { return true })
			if len(add) != 1 || len(del) != 0 || add[0].Shuts || add[0].String() != "gate dev fl-many add 192.0.2.1" {
				return fmt.Errorf("from what is %s: %v, %v", name, add, del)
			}
			err = errors.Join(err, add[0].Apply())
			t.Logf("one more than what is %s: %s", name, time.Since(began))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
