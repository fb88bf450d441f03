package nft

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/netnstest"
)

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func goFiles() ([]string, error) { return filepath.Glob("*.go") }

// between is a range that need not be a prefix, its last address included.
func between(first, last string) Element {
	return Element{Key: string(netip.MustParseAddr(first).AsSlice()), End: string(netip.MustParseAddr(last).Next().AsSlice())}
}

func TestEverySetIsTheSameInTextAndNetlink(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Set{
		"none":                    {Type: IPv4Addr, Interval: true},
		"all of IPv4":             {Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("0.0.0.0/0"))},
		"first and last of IPv4":  {Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("0.0.0.0/32", "255.255.255.255/32"))},
		"last half of IPv4":       {Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("128.0.0.0/1"))},
		"all of IPv6":             {Type: IPv6Addr, Interval: true, Elements: Prefixes(prefixes("::/0"))},
		"first and last of IPv6":  {Type: IPv6Addr, Interval: true, Elements: Prefixes(prefixes("::/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"))},
		"IPv4 written as IPv6":    {Type: IPv6Addr, Interval: true, Elements: Prefixes(prefixes("::ffff:0:0/96"))},
		"one inside another":      {Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8", "10.255.255.255/32"))},
		"neighbours":              {Type: IPv4Addr, Interval: true, Elements: Sorted([]Element{between("10.0.0.0", "10.0.0.9"), between("10.0.0.11", "10.0.0.11")})},
		"ranges":                  {Type: IPv4Addr, Interval: true, Elements: Sorted([]Element{between("10.0.0.1", "10.0.0.6"), between("192.168.0.0", "192.168.2.255")})},
		"range to the last":       {Type: IPv4Addr, Interval: true, Elements: Sorted([]Element{between("10.0.0.1", "255.255.255.255")})},
		"IPv6 ranges":             {Type: IPv6Addr, Interval: true, Elements: Sorted([]Element{between("fd00::1", "fd00::6"), between("fd01::", "fd01::1:0")})},
		"single IPv4 addresses":   {Type: IPv4Addr, Elements: Sorted([]Element{{Key: "\x0a\x00\x00\x01"}, {Key: "\x0a\x00\x00\x02"}, {Key: "\xff\xff\xff\xff"}})},
		"addresses like prefixes": {Type: IPv4Addr, Elements: Sorted([]Element{{Key: "\x00\x00\x00\x00"}, {Key: "\x80\x00\x00\x00"}})},
		"protocols":               {Type: InetProto, Elements: Protocols(132, 6, 17, 6, 0, 255)},
		"more than a message has": {Type: IPv4Addr, Interval: true, Elements: apart(1200)},
		"protocol and port":       {Type: Concat(InetProto, InetService), Elements: Sorted([]Element{{Key: Tuple(Proto(17), Port(53))}, {Key: Tuple(Proto(6), Port(65535))}})},
		"endpoints": {Type: Concat(InetProto, IPv4Addr, InetService), Elements: Sorted([]Element{
			{Key: Tuple(Proto(132), Addr(addr("192.0.2.1")), Port(80))}, {Key: Tuple(Proto(6), Addr(addr("0.0.0.0")), Port(1))}})},
		"IPv6 endpoints": {Type: Concat(InetProto, IPv6Addr, InetService), Elements: Sorted([]Element{{Key: Tuple(Proto(6), Addr(addr("fd00::1")), Port(80))}})},
		"all others":     {Type: IPv4Addr, Elements: Sorted([]Element{{}, {Key: Addr(addr("10.0.0.1"))}})},
		"empty map":      {Type: IPv4Addr, Data: IPv4Addr},
		"addresses":      {Type: IPv4Addr, Data: IPv4Addr, Elements: Sorted([]Element{{Key: Addr(addr("10.0.0.1")), Data: Addr(addr("192.0.2.1"))}})},
		"ports": {Type: Concat(InetProto, InetService), Data: Concat(IPv4Addr, InetService), Elements: Sorted([]Element{
			{Key: Tuple(Proto(6), Port(80)), Data: Endpoint(netip.MustParseAddrPort("10.0.0.1:8080"))},
			{Key: Tuple(Proto(17), Port(80)), Data: Endpoint(netip.MustParseAddrPort("10.0.0.1:8080"))}})},
		"ports to IPv6": {Type: Concat(InetProto, InetService), Data: Concat(IPv6Addr, InetService), Elements: Sorted([]Element{
			{Key: Tuple(Proto(6), Port(80)), Data: Endpoint(netip.MustParseAddrPort("[fd00::1]:8080"))}})},
		"endpoints to endpoints": {Type: Concat(InetProto, IPv4Addr, InetService), Data: Concat(IPv4Addr, InetService), Elements: Sorted([]Element{
			{Key: Tuple(Proto(6), Addr(addr("192.0.2.1")), Port(80)), Data: Endpoint(netip.MustParseAddrPort("10.0.0.1:8080"))}})},
		"IPv6 endpoints to endpoints": {Type: Concat(InetProto, IPv6Addr, InetService), Data: Concat(IPv6Addr, InetService), Elements: Sorted([]Element{
			{Key: Tuple(Proto(6), Addr(addr("fd00::2")), Port(80)), Data: Endpoint(netip.MustParseAddrPort("[fd00::1]:8080"))}})},
		"links":         {Type: IfName, Elements: Sorted([]Element{{Key: Link("lo")}, {Key: Link("fifteen-letters")}})},
		"peers":         {Type: IPv4Addr, Room: 2, Elements: Sorted([]Element{{Key: Addr(netip.MustParseAddr("192.0.2.1"))}, {Key: Addr(netip.MustParseAddr("192.0.2.2"))}})},
		"counted links": {Type: IfName, Counted: true, Elements: Sorted([]Element{{Key: Link("lo")}, {Key: Link("eth0")}})},
		"links and addresses": {Type: Concat(IfName, IPv4Addr), Elements: Sorted([]Element{
			{Key: Tuple(Link("fl-0123456789ab"), Addr(addr("10.0.0.1")))}, {Key: Tuple(Link("lo"), Addr(addr("127.0.0.1")))}})},
		"links and IPv6 addresses": {Type: Concat(IfName, IPv6Addr), Elements: Sorted([]Element{{Key: Tuple(Link("eth0"), Addr(addr("fe80::1")))}})},
		"blocks": {Type: IPv4Addr, Data: Concat(IPv4Addr, InetService), DataInterval: true, Elements: Sorted([]Element{
			{Key: Addr(addr("10.0.0.1")), Data: Block(addr("192.0.2.1"), 1024, 1535)},
			{Key: Addr(addr("10.0.0.2")), Data: Block(addr("192.0.2.1"), 1536, 1536)},
			{Key: Addr(addr("10.0.0.3")), Data: Block(addr("255.255.255.255"), 0, 65535)}})},
		"IPv6 blocks": {Type: IPv6Addr, Data: Concat(IPv6Addr, InetService), DataInterval: true, Elements: Sorted([]Element{
			{Key: Addr(addr("fd00::1")), Data: Block(addr("2001:db8::1"), 1024, 1535)}})},
		"all others' block": {Type: IPv4Addr, Data: Concat(IPv4Addr, InetService), DataInterval: true, Elements: Sorted([]Element{
			{Data: Block(addr("192.0.2.1"), 1024, 1535)}})},
		"ranges to blocks": {Type: IPv4Addr, Interval: true, Data: Concat(IPv4Addr, InetService), DataInterval: true, Elements: Sorted([]Element{
			{Key: Addr(addr("10.0.0.0")), End: Addr(addr("10.0.1.0")), Data: Block(addr("192.0.2.1"), 1024, 1535)},
			{Key: Addr(addr("10.0.1.0")), End: Addr(addr("10.0.2.0")), Data: Block(addr("192.0.2.2"), 1024, 1535)}})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.Name = "s"
			proveTwin(t, &Table{Name: "t", Sets: []*Set{&s}})
		})
	}
}

// Numbers are in the host's order, and of others it has to be said how they are.
func TestEverySetOfNumbersIsTheSameInTextAndNetlink(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]Set{
		"marks":         {Type: MarkType, Elements: Sorted([]Element{{Key: Number(0)}, {Key: Number(0x01000005)}, {Key: Number(0xffffffff)}})},
		"stations":      {Type: EtherAddr, Elements: Sorted([]Element{{Key: Ether([6]byte{2, 0, 0, 0, 0, 1})}, {Key: Ether([6]byte{0xee, 0xfa, 0x1e, 0xad, 0, 1})}})},
		"classes":       {Type: ClassID, Elements: Sorted([]Element{{Key: Number(0)}, {Key: Number(7)}, {Key: Number(0x10010)}, {Key: Number(0x666c0010)}})},
		"to classes":    {Type: IPv4Addr, Data: ClassID, Elements: Sorted([]Element{{Key: Addr(addr("10.0.0.1")), Data: Number(0x10010)}})},
		"IPv6 to marks": {Type: IPv6Addr, Data: MarkType, Elements: Sorted([]Element{{Key: Addr(addr("fd00::1")), Data: Number(0x01000000)}})},
		"stations to marks": {Type: EtherAddr, Data: MarkType, Elements: Sorted([]Element{
			{Key: Ether([6]byte{2, 0, 0, 0, 0, 1}), Data: Number(0x01000000)}})},
		"marks to stations": {Type: MarkType, Data: EtherAddr, Elements: Sorted([]Element{
			{Key: Number(0x01000000), Data: Ether([6]byte{2, 0, 0, 0, 0, 1})}})},
		"classes and marks to marks": {Type: Concat(ClassID, MarkType), Data: MarkType, Elements: Sorted([]Element{
			{Key: Tuple(Number(0x10010), Number(5)), Data: Number(0x01000007)}})},
		"marks to addresses": {Type: MarkType, Data: IPv6Addr, Elements: Sorted([]Element{{Key: Number(5), Data: Addr(addr("2001:db8::1"))}, {Key: Number(6), Data: Addr(addr("2001:db8::2"))}})},
		"marks to blocks": {Type: MarkType, Data: Concat(IPv4Addr, InetService), DataInterval: true, Elements: Sorted([]Element{
			{Key: Number(5), Data: Block(addr("192.0.2.1"), 1024, 1535)}, {Key: Number(9), Data: Block(addr("192.0.2.1"), 32768, 60999)}})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.Name = "s"
			proveTwin(t, &Table{Name: "t", Sets: []*Set{&s}})
		})
	}
}

// apart is n ranges that do not touch.
func apart(n int) Elements {
	var out []Element
	for i := range uint32(n) {
		first := binary.BigEndian.AppendUint32(nil, 10<<24+i*4)
		end := binary.BigEndian.AppendUint32(nil, 10<<24+i*4+2)
		out = append(out, Element{Key: string(first), End: string(end)})
	}
	return Sorted(out)
}

// nft(8) joins prefixes that touch; the kernel need not, and Diff must not mind.
func TestPrefixesThatTouchAreFound(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	touching := prefixes("10.0.0.0/25", "10.0.0.128/25", "10.0.1.0/24", "0.0.0.0/8", "1.0.0.0/8", "255.0.0.0/8", "254.0.0.0/8")
	apply(t, h, &Table{Name: "t", Sets: []*Set{{Name: "s", Type: IPv4Addr, Interval: true, Elements: Prefixes(touching)}}})
}

// Shrinking, growing, splitting and joining ranges in one transaction must not
// be refused as an overlap, and must leave exactly what is wanted.
func TestAnySetBecomesAnyOther(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		s := &Set{Name: "s", Type: IPv4Addr, Interval: true, Elements: Prefixes(randomPrefixes(random, netip.MustParseAddr("255.255.255.192")))}
		six := &Set{Name: "six", Type: IPv6Addr, Interval: true,
			Elements: Prefixes(randomPrefixes(random, netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0")))}
		want := &Table{Name: "t", Sets: []*Set{s, six}}
		apply(t, h, want)
		if t.Failed() {
			t.Fatalf("round %d: want\n%s", round, want)
		}
	}
}

// randomPrefixes are some inside the 64 addresses from base on.
func randomPrefixes(random *rand.Rand, base netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for range random.IntN(12) {
		b := base.AsSlice()
		b[len(b)-1] |= byte(random.IntN(64))
		a, _ := netip.AddrFromSlice(b)
		out = append(out, netip.PrefixFrom(a, a.BitLen()-random.IntN(6)).Masked())
	}
	return out
}

func TestPrefixesCoverTheSameAddresses(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	base := netip.MustParseAddr("255.255.255.192")
	for range 2000 {
		ps := randomPrefixes(random, base)
		got := Prefixes(ps).list.Slice()
		for a := base; a.IsValid(); a = a.Next() {
			want := slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
			covered := slices.ContainsFunc(got, func(e Element) bool {
				key := string(a.AsSlice())
				return e.Key <= key && (e.End == "" || key < e.End)
			})
			if covered != want {
				t.Fatalf("%s in %v: %v, want %v", a, ps, covered, want)
			}
		}
	}
}

// What the kernel lists of a set, in whatever order, is the set.
func FuzzElementsRoundTrip(f *testing.F) {
	f.Add([]byte{0, 0, 255, 8, 10, 24, 255, 32}, uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var ps []netip.Prefix
		for ; len(b) >= 2; b = b[2:] {
			ps = append(ps, netip.PrefixFrom(netip.AddrFrom4([4]byte{b[0], b[0], 0, b[0]}), int(b[1])%33).Masked())
		}
		want := Prefixes(ps).list.Slice()
		for i := range want {
			want[i].Data = want[i].End // as good as any
		}
		bounds := []bound{{key: string(make([]byte, 4)), end: true}} // as nft(8) writes it
		if len(want) > 0 && want[0].Key == string(make([]byte, 4)) {
			bounds = nil
		}
		for _, e := range want {
			bounds = append(bounds, bound{key: e.Key, data: e.Data})
			if e.End != "" {
				bounds = append(bounds, bound{key: e.End, end: true})
			}
		}
		random := rand.New(rand.NewPCG(seed, seed))
		random.Shuffle(len(bounds), func(i, j int) { bounds[i], bounds[j] = bounds[j], bounds[i] })
		if d := gocmp.Diff(want, elements(bounds)); d != "" {
			t.Error(d)
		}
	})
}

// A set that is full takes others in the place of what goes; one with more room is
// another, and makes its table anew.
func TestASetThatIsFull(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	with := func(room uint32, last ...byte) *Table {
		var all []Element
		for _, b := range last {
			all = append(all, Element{Key: Addr(netip.AddrFrom4([4]byte{10, 0, 0, b}))})
		}
		return &Table{Name: "t", Sets: []*Set{{Name: "s", Type: IPv4Addr, Room: room, Elements: Sorted(all)}}}
	}
	for _, want := range []*Table{with(2, 1, 2), with(2, 3, 4), with(4, 1, 2, 3, 4), with(2, 1)} {
		apply(t, h, want)
	}
	h.Do(func() error {
		if err := Apply(DiffTables([]*Table{with(2, 1)}, []*Table{with(2, 1, 2, 3)})); err == nil {
			t.Error("the kernel has no bound for it")
		}
		return nil
	})
}
