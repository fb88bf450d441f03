package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// blocks is a map from addresses of the family to blocks of 512 ports.
func blocks(f Family, n int) *Set {
	s := &Set{Name: "blocks", Type: f.AddrType(), Data: Concat(f.AddrType(), InetService), DataInterval: true}
	var all []Element
	for i := range uint32(n) {
		inside, outside := inFamily(f, 10<<24+i), inFamily(f, 192<<24+i/64)
		low := uint16(32768 + i%64*512)
		all = append(all, Element{Key: Addr(inside), Data: Block(outside, low, low+511)})
	}
	s.Elements = Sorted(all)
	return s
}

// inFamily is an IPv4 address, or the IPv6 address that ends in it.
func inFamily(f Family, n uint32) netip.Addr {
	b := binary.BigEndian.AppendUint32(nil, n)
	if f == IPv6 {
		b = append([]byte{0x20, 0x01, 0x0d, 0xb8, 11: 0}, b...)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// blocksTable uses the blocks.
func blocksTable(f Family, s *Set) *Table {
	return &Table{Name: "t", Sets: []*Set{s}, Chains: []*Chain{{Name: "c", Type: NAT, Hook: Postrouting, Priority: 99, Rules: []Rule{
		{L4Proto(unix.IPPROTO_TCP), SNAT{Family: f, Map: "blocks", Ports: true, FullyRandom: true}},
		{L4Proto(unix.IPPROTO_UDP), SNAT{Family: f, Map: "blocks", Ports: true}},
	}}}}
}

// nft(8) 1.0.6 lists the IPv6 rule but cannot load it: the twin cannot be asked.
func TestIPv6BlocksAreListedAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	table := blocksTable(IPv6, blocks(IPv6, 2))
	apply(t, h, table)
	listed := nft(t, h, "-s", "-n", "list", "ruleset")
	for _, r := range table.Chains[0].Rules {
		if !strings.Contains(listed, r.String()) {
			t.Errorf("%q is not in\n%s", r, listed)
		}
	}
}

// A key that leads elsewhere is deleted and added, nothing else is touched.
func TestOnlyTheChangedElementOfAMapIsSent(t *testing.T) {
	t.Parallel()
	for _, f := range Families {
		t.Run(f.Keyword(), func(t *testing.T) {
			t.Parallel()
			h := netnstest.New(t)
			before := blocksTable(f, blocks(f, 100))
			apply(t, h, before)
			after := blocksTable(f, blocks(f, 100))
			last := before.Sets[0].Elements.list.Slice()[99]
			other := Element{Key: last.Key, Data: Block(inFamily(f, 192<<24), 1024, 1025)}
			after.Sets[0].Elements = before.Sets[0].Elements.With([]Element{last}, []Element{other})
			a, b := inFamily(f, 10<<24+99), inFamily(f, 192<<24+1)
			want := fmt.Sprintf("delete element inet t blocks { %s : %s . 50688-51199 }\n", a, b) +
				fmt.Sprintf("add element inet t blocks { %s : %s . 1024-1025 }\n", a, inFamily(f, 192<<24))
			if d := gocmp.Diff(want, Text(diff(h, after))); d != "" {
				t.Errorf("from what the kernel has (-want +got):\n%s", d)
			}
			if d := gocmp.Diff(want, Text(DiffTables([]*Table{before}, []*Table{after}))); d != "" {
				t.Errorf("from what was rendered (-want +got):\n%s", d)
			}
			apply(t, h, after)
		})
	}
}

// A map of any size goes through as one transaction, and then changes by what
// changed.
func TestBigMap(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	all := blocks(IPv4, 50_001)
	without := *all
	without.Elements = all.Elements.With(all.Elements.list.Slice()[50_000:], nil)
	apply(t, h, blocksTable(IPv4, &without))
	want := "add element inet t blocks { 10.0.195.80 : 192.0.3.13 . 40960-41471 }\n"
	if d := gocmp.Diff(want, Text(diff(h, blocksTable(IPv4, all)))); d != "" {
		t.Errorf("one more (-want +got):\n%s", d)
	}
	apply(t, h, blocksTable(IPv4, all))
	without.Elements = all.Elements.With(all.Elements.list.Slice()[7:8], nil)
	want = "delete element inet t blocks { 10.0.0.7 : 192.0.0.0 . 36352-36863 }\n"
	if d := gocmp.Diff(want, Text(diff(h, blocksTable(IPv4, &without)))); d != "" {
		t.Errorf("one less (-want +got):\n%s", d)
	}
	apply(t, h, blocksTable(IPv4, &without))
}

// An unchanged map costs nothing, whatever its size; one more element costs as much
// as the elements around it.
func BenchmarkDiffOfMaps(b *testing.B) {
	all := blocks(IPv4, 100_000)
	fewer := *all
	fewer.Elements = all.Elements.With(all.Elements.list.Slice()[:1], nil)
	have, more := []*Table{blocksTable(IPv4, all)}, []*Table{blocksTable(IPv4, &fewer)}
	b.Run("unchanged", func(b *testing.B) {
		for b.Loop() {
			DiffTables(have, have)
		}
	})
	b.Run("changed", func(b *testing.B) {
		for b.Loop() {
			DiffTables(have, more)
		}
	})
}

func TestMapsAreRepaired(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"element deleted":       "delete element inet t blocks { 10.0.0.1 }",
		"element added":         "add element inet t blocks { 10.9.0.1 : 192.0.2.1 . 1-2 }",
		"element leads away":    "delete element inet t blocks { 10.0.0.1 }\nadd element inet t blocks { 10.0.0.1 : 192.0.2.1 . 1-2 }",
		"catches all":           "add element inet t blocks { * : 192.0.2.1 . 1-2 }",
		"no map":                "flush chain inet t c\ndelete map inet t blocks\nadd set inet t blocks { type ipv4_addr; }",
		"map to something else": "flush chain inet t c\ndelete map inet t blocks\nadd map inet t blocks { type ipv4_addr : ipv4_addr; }",
		"map to no ranges":      "flush chain inet t c\ndelete map inet t blocks\nadd map inet t blocks { type ipv4_addr : ipv4_addr . inet_service; }",
		"map to verdicts":       "flush chain inet t c\ndelete map inet t blocks\nadd map inet t blocks { type ipv4_addr : verdict; elements = { 10.0.0.1 : drop } }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := netnstest.New(t)
			table := blocksTable(IPv4, blocks(IPv4, 3))
			apply(t, h, table)
			before := nft(t, h, "-s", "list", "ruleset")
			load(t, h, script+"\n")
			if len(diff(h, table)) == 0 {
				t.Error("not found")
			}
			apply(t, h, table)
			if d := gocmp.Diff(before, nft(t, h, "-s", "list", "ruleset")); d != "" {
				t.Errorf("not repaired (-before +after):\n%s", d)
			}
		})
	}
}

// Whatever the kernel has for a type, a key and a value, they can be shown.
func FuzzElementText(f *testing.F) {
	block := Block(netip.MustParseAddr("192.0.2.1"), 1024, 1535)
	f.Add(uint32(IPv4Addr), uint32(Concat(IPv4Addr, InetService)), []byte("\x0a\x00\x00\x01"), []byte(block), true)
	f.Add(uint32(Concat(InetProto, IPv6Addr, InetService)), uint32(0xffffff00), []byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, typ, dataType uint32, key, value []byte, ranges bool) {
		s := &Set{Type: Type(typ), Interval: ranges, Data: Type(dataType), DataInterval: ranges}
		e := Element{Key: string(key), Data: string(value)}
		if s.text(e) == "" || s.text(Element{Key: e.Key, End: e.Data}) == "" {
			t.Error("an element without text")
		}
	})
}
