package nft

import (
	"go/ast"
	"go/parser"
	"go/token"
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
	{CTState(Established | Related), Accept()},
	{CTState(Invalid | Established | Related | New), Accept()},
	{Masquerade{}},
	{Masquerade{FullyRandom: true}},
	{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999}},
	{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999, FullyRandom: true}},
	{L4Proto(unix.IPPROTO_UDP), Masquerade{Low: 40000, High: 40000}},
	{L4Proto(unix.IPPROTO_ICMPV6), Masquerade{Low: 40000, High: 40000, FullyRandom: true}},
	{Counter()},
	{Accept()},
	{Drop()},
}

// vocabulary is a table that says every word.
func vocabulary() *Table {
	return &Table{
		Name: "t",
		Sets: []*Set{
			{Name: "four", Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("10.0.0.0/8"))},
			{Name: "six", Type: IPv6Addr, Interval: true, Elements: Prefixes(prefixes("fd00::/8"))},
			{Name: "protocols", Type: InetProto, Elements: Protocols(6, 17)},
		},
		Chains: []*Chain{
			{Name: "words", Type: NAT, Hook: Postrouting, Priority: 99, Rules: words},
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
	for i, hook := range []Hook{Prerouting, Forward, Postrouting} {
		table.Chains = append(table.Chains, &Chain{Name: "filter-" + string(hook), Type: Filter, Hook: hook, Priority: -150 - i})
	}
	for i, hook := range []Hook{Prerouting, Postrouting} {
		table.Chains = append(table.Chains, &Chain{Name: "nat-" + string(hook), Type: NAT, Hook: hook, Priority: 99 + i})
	}
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
		found = tables[0].Chains[0].Code
		return err
	})
	for i, f := range found {
		for j, w := range words {
			if got, want := f.is(w), i == j; got != want {
				t.Errorf("the kernel's %q is %q: %v, want %v", words[i], w, got, want)
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
			if id, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && id.Name == "Expr" {
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
