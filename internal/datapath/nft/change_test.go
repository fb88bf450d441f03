package nft

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

// with is the small table after a change.
func with(change func(*Table)) *Table {
	t := small()
	change(t)
	return t
}

// Only what differs is sent, be it from what was rendered or what was found.
func TestOnlyWhatDiffersIsSent(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		now  *Table
		want string
	}{
		"nothing": {small(), ""},
		"one more element": {
			with(func(t *Table) {
				t.Sets[0].Elements = Prefixes(prefixes("10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"))
			}),
			"add element inet t inside { 172.16.0.0/12 }\n",
		},
		"one less and one more": {
			with(func(t *Table) { t.Sets[0].Elements = Prefixes(prefixes("10.0.0.0/8", "192.168.0.0/17")) }),
			"delete element inet t inside { 192.168.0.0/16 }\nadd element inet t inside { 192.168.0.0/17 }\n",
		},
		"another range": {
			with(func(t *Table) {
				t.Chains[1].Rules[0][1] = Masquerade{Low: 40000, High: 50000}
			}),
			"flush chain inet t outside\n" +
				"add rule inet t outside meta l4proto 6 masquerade to :40000-50000\n" +
				"add rule inet t outside masquerade\n",
		},
		"no table": {nil, "delete table inet t\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := netnstest.New(t)
			apply(t, h, small())
			var want []*Table
			if tt.now != nil {
				want = append(want, tt.now)
			}
			if d := gocmp.Diff(tt.want, Text(diff(h, want...))); d != "" {
				t.Errorf("from what the kernel has (-want +got):\n%s", d)
			}
			if d := gocmp.Diff(tt.want, Text(DiffTables([]*Table{small()}, want))); d != "" {
				t.Errorf("from what was rendered (-want +got):\n%s", d)
			}
			apply(t, h, want...)
		})
	}
}

// The text of changes is what nft(8) would do them by.
func TestChangesLoad(t *testing.T) {
	t.Parallel()
	byText, byNetlink := netnstest.New(t), netnstest.New(t)
	var last []*Table
	for _, next := range []*Table{
		vocabulary(), small(),
		with(func(t *Table) { t.Sets[0].Elements = Prefixes(prefixes("0.0.0.0/0")) }),
		with(func(t *Table) { t.Sets[0].Elements = nil; t.Chains[1].Rules = t.Chains[1].Rules[1:] }),
		with(func(t *Table) { t.Sets[1].Elements = Protocols(1) }),
	} {
		load(t, byText, Text(DiffTables(last, []*Table{next})))
		last = []*Table{next}
		apply(t, byNetlink, next)
		if d := gocmp.Diff(nft(t, byText, "-s", "list", "ruleset"), nft(t, byNetlink, "-s", "list", "ruleset")); d != "" {
			t.Errorf("text and netlink disagree (-text +netlink):\n%s", d)
		}
	}
}

// A transaction of any size goes through as one.
func TestBigTable(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	pods := &Set{Name: "pods", Type: IPv4Addr}
	for i := range uint32(10_000) {
		pods.Elements = append(pods.Elements, Element{Key: string(binary.BigEndian.AppendUint32(nil, 10<<24+i))})
	}
	table := &Table{Name: "t", Sets: []*Set{{Name: "cidrs", Type: IPv4Addr, Interval: true, Elements: apart(10_000)}, pods}}
	chain := &Chain{Name: "c", Type: Filter, Hook: Forward}
	for i := range 2000 {
		chain.Rules = append(chain.Rules, Rule{SaddrIn(IPv4, "pods"), L4Proto(unix.IPPROTO_TCP), Dport(uint16(i+1), uint16(i+1)), Counter(), Accept()})
	}
	table.Chains = []*Chain{chain}
	apply(t, h, table)
	if got := strings.Count(nft(t, h, "-s", "list", "chain", "inet", "t", "c"), "accept\n"); got != 2000 {
		t.Errorf("the kernel has %d rules, want 2000", got)
	}
	pods.Elements = pods.Elements[:9_999]
	if got, want := Text(diff(h, table)), "delete element inet t pods { 10.0.39.15 }\n"; got != want {
		t.Errorf("one element less is %s", fmt.Sprintf("%.200q, want %q", got, want))
	}
	apply(t, h)
}
