package nft

import (
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// steering is a table that sends what bears a mark to a station, by the device.
func steering(device string, station [6]byte) *Table {
	return &Table{
		Family: NetDev, Name: "t",
		Sets: []*Set{
			{Name: "next", Type: MarkType, Data: EtherAddr, Elements: Sorted([]Element{{Key: Number(0x05000000), Data: Ether(station)}})},
			{Name: "none", Type: MarkType, Data: EtherAddr},
		},
		Chains: []*Chain{
			{Name: "led", Rules: []Rule{{Counter()}}},
			{Name: "out", Type: Filter, Hook: Egress, Device: device, Rules: []Rule{
				{SetFrom(TargetEtherDaddr, IPv4, "none", FieldMarkBits(0xff000000)), Counter()},
				{SetFrom(TargetEtherDaddr, IPv4, "next", FieldMarkBits(0xff000000)), MarkAs(0xff000000, 0), Goto("led")},
			}},
		},
	}
}

var someStation = [6]byte{2, 0, 0, 0, 0, 9}

func TestDeviceTableIsTheSameInTextAndNetlink(t *testing.T) {
	t.Parallel()
	table := steering("lo", someStation)
	table.Chains = append(table.Chains, &Chain{Name: "first", Type: Filter, Hook: Egress, Device: "lo", Priority: -10, Rules: []Rule{
		{In(IPv4, "next", FieldMarkBits(0xff000000)), Mark(1, 0), Priority(7), Accept()},
	}})
	proveTwin(t, table)
}

// A table is known by family and name. Both families are listed and compared, and a
// table that is to be of the other is another.
func TestTablesOfBothFamilies(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	inet, device := small(), steering("lo", someStation)
	apply(t, h, inet)
	if d := gocmp.Diff("delete table inet t\nadd table netdev t\n", Text(diff(h, &Table{Family: NetDev, Name: "t"}))); d != "" {
		t.Errorf("in the place of the other (-want +got):\n%s", d)
	}
	apply(t, h, device, inet)
	device.Sets[0].Elements, inet.Sets[1].Elements = Elements{}, Protocols(6)
	want := "delete element netdev t next { 0x5000000 : 02:00:00:00:00:09 }\ndelete element inet t protocols { 17 }\n"
	if d := gocmp.Diff(want, Text(diff(h, device, inet))); d != "" {
		t.Errorf("an element of each (-want +got):\n%s", d)
	}
	apply(t, h, device, inet)
	if d := gocmp.Diff("delete table netdev t\n", Text(diff(h, inet))); d != "" {
		t.Errorf("one of two (-want +got):\n%s", d)
	}
	apply(t, h)
	if left := nft(t, h, "list", "ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

func TestWhatSomebodyChangesOfADeviceTableIsRepaired(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"base chain deleted": "flush chain netdev t out\ndelete chain netdev t out",
		"chain flushed":      "flush chain netdev t out",
		"rule added":         "add rule netdev t out accept",
		"at the entrance":    "delete chain netdev t out\nadd chain netdev t out { type filter hook ingress device \"lo\" priority 0; }",
		"another device":     "delete chain netdev t out\nadd chain netdev t out { type filter hook egress device \"other\" priority 0; }",
		"two devices":        "delete chain netdev t out\nadd chain netdev t out { type filter hook egress devices = { lo, other } priority 0; }",
		"another priority":   "delete chain netdev t out\nadd chain netdev t out { type filter hook egress device \"lo\" priority 1; }",
		"another policy":     "delete chain netdev t out\nadd chain netdev t out { type filter hook egress device \"lo\" priority 0; policy drop; }",
		"element added":      "add element netdev t next { 0x06000000 : 02:00:00:00:00:06 }",
		"table deleted":      "delete table netdev t",
		"table put to sleep": "add table netdev t { flags dormant; }",
		"table of our name":  "add table inet t\nadd chain inet t c { type filter hook forward priority 0; policy drop; }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, other := netnstest.New(t), netnstest.New(t)
			netnstest.Wire(h, "other", other, "eth0")
			want := steering("lo", someStation)
			apply(t, h, want)
			before := nft(t, h, "-s", "list", "ruleset")
			load(t, h, script+"\n")
			if len(diff(h, want)) == 0 {
				t.Error("not found")
			}
			apply(t, h, want)
			if d := gocmp.Diff(before, nft(t, h, "-s", "list", "ruleset")); d != "" {
				t.Errorf("not repaired (-before +after):\n%s", d)
			}
		})
	}
}

// A chain that stays without its device, as some kernels leave it when the device goes,
// is made anew. Others take it away with the device, or give it to the next of that name.
func TestChainWithoutItsDeviceIsMadeAnew(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	want := steering("lo", someStation)
	apply(t, h, want)
	h.Do(func() error {
		const devices, name = 4, 1 // NFTA_HOOK_DEVS, NFTA_DEVICE_NAME: not in x/sys
		return send([]step{want.id().step(unix.NFT_MSG_DELCHAIN, 0,
			str(unix.NFTA_CHAIN_TABLE, "t"), str(unix.NFTA_CHAIN_NAME, "out"),
			nest(unix.NFTA_CHAIN_HOOK, nest(devices, str(name, "lo"))))})
	})
	if listed := nft(t, h, "list", "ruleset"); !strings.Contains(listed, "chain out") || strings.Contains(listed, `"lo"`) {
		t.Fatalf("the chain is not without its device:\n%s", listed)
	}
	if !strings.Contains(Text(diff(h, want)), `device "lo"`) {
		t.Error("not found")
	}
	apply(t, h, want)
}

// A chain for a device that is not there cannot be made, or waits for it: that is for the
// kernel to say, and where it refuses a transaction, the words say which device it was.
func TestMissingDeviceIsNamed(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	want := steering("fl-gone", someStation)
	want.Chains[0].Rules = []Rule{{Goto("nowhere")}} // refused by every kernel, in the same words
	h.Do(func() error {
		err := Apply(addTable(want))
		if err == nil || !strings.Contains(err.Error(), `there is no device "fl-gone"`) {
			t.Errorf("without the device: %v", err)
		}
		want.Chains[1].Device = "lo"
		if err := Apply(addTable(want)); err == nil || strings.Contains(err.Error(), "device") {
			t.Errorf("with it: %v", err)
		}
		return nil
	})
	if left := nft(t, h, "list", "ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// lead gives the node a wrong neighbour outside, and wants frames with a mark led to the
// right one.
func (s street) lead(t *testing.T, f Family) {
	t.Helper()
	s.node.Run("ip", "neigh", "replace", outsideAt[f].String(), "lladdr", "02:00:00:00:00:66", "dev", "out", "nud", "permanent")
	apply(t, s.node, steering("out", etherOf(s.outside, "eth0")), marking)
}

// marking gives everything that leaves a mark.
var marking = &Table{Name: "t", Chains: []*Chain{{Name: "marking", Type: Filter, Hook: Postrouting, Rules: []Rule{
	{OIFName("out"), MarkAs(0xff000000, 0x05000000)},
}}}}

// A mark leads a frame to a station, whatever neighbours say; what the map does not have
// goes on. That is so again once the device went and came back, whether the table was
// wanted meanwhile or not.
func TestMarkLeadsToAStation(t *testing.T) {
	t.Parallel()
	forEachFlow(t, func(t *testing.T, f Family, protocol byte) {
		s := newStreet(t)
		port := uint16(40000)
		proveLed := func() {
			t.Helper()
			port++
			if who, _ := ask(s.pod, protocol, port, netip.AddrPortFrom(outsideAt[f], listening)); who != "outside" {
				t.Errorf("answered by %q", who)
			}
			s.node.Do(func() error {
				found, err := Read("t")
				if len(found) != 2 || found[1].Packets("led") == 0 || found[1].Packets("out") != 0 {
					t.Error("it was not by the map that has the mark")
				}
				return err
			})
		}
		s.lead(t, f)
		proveLed()
		for _, meanwhile := range [][]*Table{{marking}, nil} {
			s.node.Run("ip", "link", "del", "out")
			if meanwhile != nil {
				apply(t, s.node, meanwhile...)
			}
			netnstest.Wire(s.outside, "eth0", s.node, "out")
			s.node.Address("out", "192.0.2.1/24", "2001:db8::1/64")
			s.outside.Address("eth0", "192.0.2.9/24", "2001:db8::9/64")
			s.outside.Route("10.0.0.0/24", "192.0.2.1")
			s.outside.Route("fd00::/64", "2001:db8::1")
			s.lead(t, f)
			proveLed()
		}
	})
}
