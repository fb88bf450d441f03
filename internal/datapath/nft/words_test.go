package nft

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// words is a rule for every word and every way to say it.
var words = []Rule{
	{SaddrIn(IPv4, "four"), Accept()},
	{SaddrIn(IPv6, "six"), Accept()},
	{DaddrIn(IPv4, "four"), Drop()},
	{DaddrIn(IPv6, "six"), Drop()},
	{DaddrNotIn(IPv4, "four"), Goto("further")},
	{DaddrNotIn(IPv6, "six"), Goto("further")},
	{SaddrIn(IPv4, "four"), DaddrNotIn(IPv4, "four"), Goto("further")},
	{SaddrIn(IPv6, "six"), DaddrIn(IPv6, "six"), Accept()},
	{L4Proto(unix.IPPROTO_SCTP), Accept()},
	{L4Proto(253), Drop()},
	{IIFName("eth0"), Accept()},
	{IIFName("fifteen-letters"), Accept()},
	{OIFName("fl-vxlan"), Counter(), Drop()},
	{IIFName("eth0"), OIFName("eth1"), Accept()},
	{L4Proto(unix.IPPROTO_TCP), Dport(80, 80), Accept()},
	{L4Proto(unix.IPPROTO_UDP), Dport(32768, 60999), Accept()},
	{L4Proto(unix.IPPROTO_TCP), Dport(1, 65535), Drop()},
	{TCPFlags(ACK), Accept()},
	{TCPFlags(FIN | SYN | RST | PSH | ACK | URG), Accept()},
	{TCPFlags(SYN | RST), Dport(443, 443), Drop()},
	{CTState(New), Accept()},
	{CTState(Invalid), Drop()},
	{CTState(Invalid | Untracked), Drop()},
	{CTState(Established | Related), Accept()},
	{CTState(Invalid | Established | Related | New), Accept()},
	{Masquerade{}},
	{Masquerade{FullyRandom: true}},
	{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999}},
	{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999, FullyRandom: true}},
	{L4Proto(unix.IPPROTO_UDP), Masquerade{Low: 40000, High: 40000}},
	{L4Proto(unix.IPPROTO_ICMPV6), Masquerade{Low: 40000, High: 40000, FullyRandom: true}},
	{In(IPv4, "services", FieldProto, FieldDport), Accept()},
	{In(IPv4, "endpoints", FieldProto, FieldDaddr, FieldDport), Accept()},
	{In(IPv6, "endpoints6", FieldProto, FieldDaddr, FieldDport), Accept()},
	{Not(In(IPv6, "endpoints6", FieldProto, FieldDaddr, FieldDport)), Accept()},
	{Daddr(netip.MustParsePrefix("127.0.0.0/8")), Accept()},
	{Not(Daddr(netip.MustParsePrefix("127.0.0.0/8"))), Accept()},
	{Saddr(netip.MustParsePrefix("127.0.0.1/32")), Accept()},
	{Saddr(netip.MustParsePrefix("10.1.2.0/24")), Not(Daddr(netip.MustParsePrefix("10.1.0.0/17"))), Accept()},
	{Daddr(netip.MustParsePrefix("0.0.0.0/0")), Accept()},
	{Daddr(netip.MustParsePrefix("::1/128")), Accept()},
	{Saddr(netip.MustParsePrefix("fe80::/10")), Accept()},
	{Not(Saddr(netip.MustParsePrefix("fd00:1:2:3::/64"))), Accept()},
	{Daddr(netip.MustParsePrefix("::/0")), Accept()},
	{IsFamily(IPv4), Accept()},
	{IsFamily(IPv6), L4Proto(unix.IPPROTO_UDP), Accept()},
	{DaddrLocal(), Accept()},
	{SaddrLocal(), Accept()},
	{Not(DaddrLocal()), Not(SaddrLocal()), Drop()},
	{Mark(0x10, 0x10), Accept()},
	{Mark(0xff00, 0x1200), Accept()},
	{Mark(0x10, 0), Accept()},
	{Mark(0xffffffff, 7), Accept()},
	{Not(Mark(0xff, 0x10)), Accept()},
	{MarkAs(0x10, 0x10), Accept()},
	{MarkAs(0xf0000000, 0x80000000), Accept()},
	{MarkAs(0xff, 0), Accept()},
	{CTMark(0x10, 0x10), Accept()},
	{Not(CTMark(0xff00, 0)), Accept()},
	{CTMarkAs(0xf0000000, 0x80000000), Accept()},
	{CTMarkAs(0xff, 0)},
	{MarkFromCT(), Accept()},
	{CTMarkFromHash(IPv4, 128, 0x1234)},
	{CTMarkFromHash(IPv6, 5, 0)},
	{In(IPv4, "marks", FieldCTMark), Accept()},
	{In(IPv4, "marks", FieldMarkBits(0x3fff)), Accept()},
	{Not(In(IPv4, "marks", FieldCTMarkBits(0x3fff))), Accept()},
	{In(IPv4, "stations", FieldEtherSaddr), Accept()},
	{SaddrIn(IPv4, "four"), In(IPv4, "stations", FieldEtherSaddr), Accept()},
	{In(IPv4, "classes", FieldPriority), Accept()},
	{SetFrom(TargetPriority, IPv4, "classes4", FieldSaddr)},
	{SetFrom(TargetPriority, IPv6, "classes6", FieldSaddr), Accept()},
	{SetFrom(TargetCTMark, IPv4, "of-stations", FieldEtherSaddr)},
	{SaddrIn(IPv4, "four"), SetFrom(TargetCTMark, IPv4, "of-stations", FieldEtherSaddr), Accept()},
	{SetFrom(TargetCTMark, IPv4, "of-classes", FieldPriority, FieldCTMark)},
	{SetFrom(TargetEtherDaddr, IPv4, "next", FieldMarkBits(0xff000000)), MarkAs(0xff000000, 0)},
	{SNAT{Family: IPv4, By: FieldCTMarkBits(0x3fff), Map: "outer"}},
	{SNAT{Family: IPv6, By: FieldCTMarkBits(0x3fff), Map: "outer6", FullyRandom: true}},
	{L4Proto(unix.IPPROTO_TCP), SNAT{Family: IPv4, By: FieldCTMarkBits(0x3fff), Map: "outer-blocks", Ports: true, FullyRandom: true}},
	{ClampMSS()},
	{OIFName("eth0"), ClampMSS(), Accept()},
	{In(IPv4, "four", FieldOriginalDaddr), MarkAs(0xf, 3)},
	{Not(In(IPv6, "six", FieldOriginalDaddr)), Drop()},
	{Priority(0x666c0001), Accept()},
	{Not(Priority(7)), Drop()},
	{Priority(0), SetPriority(0x666c0001), Accept()},
	{SetPriority(0), Accept()},
	{L4Proto(unix.IPPROTO_UDP), Dport(4789, 4789), NoTrack(), Accept()},
	{CTStatus(DestinationNATed), Accept()},
	{CTStatus(SourceNATed), Accept()},
	{CTStatus(SourceNATed | DestinationNATed), Accept()},
	{CTDirection(Original), Accept()},
	{CTDirection(Reply), Accept()},
	{IIFName("fl-*"), Accept()},
	{OIFName("fl-*"), Accept()},
	{Not(IIFName("fl-*")), Not(OIFName("eth0")), Accept()},
	{SNAT{Family: IPv4, Map: "sources"}},
	{SNAT{Family: IPv6, Map: "sources6", FullyRandom: true}},
	{L4Proto(unix.IPPROTO_TCP), SNAT{Family: IPv4, Map: "blocks", Ports: true}},
	{L4Proto(unix.IPPROTO_UDP), SNAT{Family: IPv4, Map: "blocks", Ports: true, FullyRandom: true}},
	{In(IPv4, "wires", FieldIIF), Drop()},
	{In(IPv4, "wired", FieldIIF, FieldSaddr), Accept()},
	{In(IPv6, "wired6", FieldIIF, FieldSaddr), Accept()},
	{ICMPv6(RouterAdvert), Drop()},
	{ICMPv6(Redirect), Drop()},
	{Saddr(netip.MustParsePrefix("::/128")), ICMPv6(NeighbourSolicit), Accept()},
	{ICMPv6(MulticastReport), Accept()},
	{ICMPv6(MulticastReportTwo), Accept()},
	{SNATTo{Address: netip.MustParseAddr("192.0.2.1")}},
	{SNATTo{Address: netip.MustParseAddr("2001:db8::1")}},
	{L4Proto(6), SNATTo{Address: netip.MustParseAddr("192.0.2.1"), Low: 40000, High: 49999, FullyRandom: true}},
	{KeepSource(IPv4)},
	{KeepSource(IPv6)},
	{Jump("further")},
	{Return()},
	{Counter()},
	{Accept()},
	{Drop()},
}

// destinations are the words that stand before routing only.
var destinations = []Rule{
	{DNAT(IPv4, "ports", FieldProto, FieldDport)},
	{DNAT(IPv6, "ports6", FieldProto, FieldDport)},
	{DNAT(IPv4, "published", FieldProto, FieldDaddr, FieldDport)},
	{DNAT(IPv6, "published6", FieldProto, FieldDaddr, FieldDport)},
	{DaddrLocal(), DNAT(IPv4, "ports", FieldProto, FieldDport)},
}

// arrivals are the words that stand where packets arrive, leave or pass only.
var arrivals = []Rule{
	{Reject()},
	{RejectProhibited()},
	{L4Proto(unix.IPPROTO_UDP), Dport(80, 80), Reject()},
}

// vocabulary is a table that says every word.
func vocabulary() *Table {
	return &Table{
		Name: "t",
		Sets: []*Set{
			{Name: "four", Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("10.0.0.0/8"))},
			{Name: "six", Type: IPv6Addr, Interval: true, Elements: Prefixes(prefixes("fd00::/8"))},
			{Name: "protocols", Type: InetProto, Elements: Protocols(6, 17)},
			{Name: "services", Type: Concat(InetProto, InetService)},
			{Name: "endpoints", Type: Concat(InetProto, IPv4Addr, InetService)},
			{Name: "endpoints6", Type: Concat(InetProto, IPv6Addr, InetService)},
			{Name: "peers", Type: IPv4Addr, Room: 4096, Elements: Sorted([]Element{{Key: Addr(netip.MustParseAddr("192.0.2.1"))}})},
			{Name: "wires", Type: IfName, Counted: true, Elements: Sorted([]Element{{Key: Link("fl-0123456789ab")}})},
			{Name: "wired", Type: Concat(IfName, IPv4Addr)},
			{Name: "wired6", Type: Concat(IfName, IPv6Addr)},
			{Name: "sources", Type: IPv4Addr, Data: IPv4Addr},
			{Name: "sources6", Type: IPv6Addr, Data: IPv6Addr},
			{Name: "blocks", Type: IPv4Addr, Data: Concat(IPv4Addr, InetService), DataInterval: true},
			{Name: "marks", Type: MarkType, Elements: Sorted([]Element{{Key: Number(0x01000005)}})},
			{Name: "stations", Type: EtherAddr},
			{Name: "classes", Type: ClassID},
			{Name: "classes4", Type: IPv4Addr, Data: ClassID},
			{Name: "classes6", Type: IPv6Addr, Data: ClassID},
			{Name: "of-stations", Type: EtherAddr, Data: MarkType},
			{Name: "of-classes", Type: Concat(ClassID, MarkType), Data: MarkType},
			{Name: "next", Type: MarkType, Data: EtherAddr},
			{Name: "outer", Type: MarkType, Data: IPv4Addr},
			{Name: "outer6", Type: MarkType, Data: IPv6Addr},
			{Name: "outer-blocks", Type: MarkType, Data: Concat(IPv4Addr, InetService), DataInterval: true},
			{Name: "ports", Type: Concat(InetProto, InetService), Data: Concat(IPv4Addr, InetService)},
			{Name: "ports6", Type: Concat(InetProto, InetService), Data: Concat(IPv6Addr, InetService)},
			{Name: "published", Type: Concat(InetProto, IPv4Addr, InetService), Data: Concat(IPv4Addr, InetService)},
			{Name: "published6", Type: Concat(InetProto, IPv6Addr, InetService), Data: Concat(IPv6Addr, InetService)},
		},
		Chains: []*Chain{
			{Name: "words", Type: NAT, Hook: Postrouting, Priority: 99, Rules: words},
			{Name: "destinations", Type: NAT, Hook: Prerouting, Priority: -100, Rules: destinations},
			{Name: "arrivals", Type: Filter, Hook: Input, Priority: 0, Rules: arrivals},
			{Name: "further", Rules: []Rule{{L4Proto(unix.IPPROTO_TCP), TCPFlags(ACK), Accept()}}},
		},
	}
}

func TestEveryWordIsTheSameInTextAndNetlink(t *testing.T) {
	t.Parallel()
	proveTwin(t, vocabulary())
}

func TestEveryHookIsTheSameInTextAndNetlink(t *testing.T) {
	t.Parallel()
	table := &Table{Name: "t"}
	for i, hook := range []Hook{Prerouting, Input, Forward, Output, Postrouting} {
		table.Chains = append(table.Chains, &Chain{Name: "filter-" + string(hook), Type: Filter, Hook: hook, Priority: -150 - i})
	}
	for i, hook := range []Hook{Prerouting, Input, Output, Postrouting} {
		table.Chains = append(table.Chains, &Chain{Name: "nat-" + string(hook), Type: NAT, Hook: hook, Priority: 98*i - 101})
	}
	table.Chains = append(table.Chains, &Chain{Name: "route", Type: Route, Hook: Output, Priority: -151})
	proveTwin(t, table)
}

// A rule that was changed into any other must be seen.
func TestNoRuleIsTakenForAnother(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	apply(t, h, vocabulary())
	var found []FoundRule
	h.Do(func() error {
		tables, err := Read("t")
		for _, c := range tables[0].Chains[:3] {
			found = append(found, c.Code...)
		}
		return err
	})
	all := slices.Concat(words, destinations, arrivals)
	for i, f := range found {
		for j, w := range all {
			if got, want := f.is(w), i == j; got != want {
				t.Errorf("the kernel's %q is %q: %v, want %v", all[i], w, got, want)
			}
		}
	}
}

// A word that no twin test knows could say one thing and do another.
func TestNoWordIsMissing(t *testing.T) {
	used := map[string]bool{}
	for _, f := range parse(t, func(name string) bool { return name == "words_test.go" }) {
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
			}
			return true
		})
	}
	for _, f := range parse(t, func(name string) bool { return !strings.HasSuffix(name, "_test.go") }) {
		for _, name := range constructors(f) {
			if !used[name] {
				t.Errorf("%s is not in words", name)
			}
		}
	}
}

func parse(t *testing.T, wanted func(name string) bool) []*ast.File {
	t.Helper()
	files := []*ast.File{}
	names, err := goFiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !wanted(name) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// constructors are the exported functions that return an Expr, and the exported
// types that are one.
func constructors(f *ast.File) []string {
	var out []string
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		switch {
		case !ok:
		case fn.Recv == nil && fn.Name.IsExported() && fn.Type.Results != nil && len(fn.Type.Results.List) == 1:
			if id, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && (id.Name == "Expr" || id.Name == "Match") {
				out = append(out, fn.Name.Name)
			}
		case fn.Recv != nil && fn.Name.Name == "text" && len(fn.Type.Params.List) == 0:
			if id, ok := fn.Recv.List[0].Type.(*ast.Ident); ok && id.IsExported() {
				out = append(out, id.Name)
			}
		}
	}
	return out
}
