package nft

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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
		"one more set and chain": {
			with(func(t *Table) {
				t.Sets = append(t.Sets, &Set{Name: "more", Type: IPv4Addr, Elements: Sorted([]Element{{Key: Addr(addr("10.0.0.1"))}})})
				t.Chains = append(t.Chains, &Chain{Name: "more", Rules: []Rule{{SaddrIn(IPv4, "more"), Accept()}}})
			}),
			"add set inet t more { type ipv4_addr; }\nadd element inet t more { 10.0.0.1 }\n" +
				"add chain inet t more\nadd rule inet t more ip saddr @more accept\n",
		},
		"one less set and chain": {
			with(func(t *Table) { t.Sets, t.Chains = t.Sets[1:], t.Chains[1:] }),
			"flush chain inet t postrouting\ndelete set inet t inside\ndelete chain inet t postrouting\n",
		},
		"a chain of another kind": {
			with(func(t *Table) { t.Sets, t.Chains = nil, []*Chain{{Name: "outside", Type: Filter, Hook: Input}} }),
			"delete table inet t\nadd table inet t\nadd chain inet t outside { type filter hook input priority 0; policy accept; }\n",
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
		with(func(t *Table) { t.Sets[0].Elements = Elements{}; t.Chains[1].Rules = t.Chains[1].Rules[1:] }),
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
	var all []Element
	for i := range uint32(10_000) {
		all = append(all, Element{Key: string(binary.BigEndian.AppendUint32(nil, 10<<24+i))})
	}
	pods.Elements = Sorted(all)
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
	pods.Elements = pods.Elements.With(all[9_999:], nil)
	if got, want := Text(diff(h, table)), "delete element inet t pods { 10.0.39.15 }\n"; got != want {
		t.Errorf("one element less is %s", fmt.Sprintf("%.200q, want %q", got, want))
	}
	apply(t, h)
}

// Any table becomes any other in one transaction, whatever refers to what.
func TestAnyTableBecomesAnyOther(t *testing.T) {
	t.Parallel()
	byText, byNetlink := netnstest.New(t), netnstest.New(t)
	random := rand.New(rand.NewPCG(5, 6))
	var last []*Table
	for round := range 100 {
		next := randomTable(random)
		load(t, byText, Text(DiffTables(last, []*Table{next})))
		last = []*Table{next}
		apply(t, byNetlink, next)
		if left := diff(byText, next); len(left) > 0 {
			t.Errorf("loaded, and still to do:\n%s", Text(left))
		}
		if t.Failed() {
			t.Fatalf("round %d: want\n%s", round, next)
		}
	}
}

// randomTable has some of four maps or sets, and some of four chains that look
// up every one of them and jump to each chain behind them.
func randomTable(random *rand.Rand) *Table {
	table := &Table{Name: "t"}
	for i := range 4 {
		s := &Set{Name: fmt.Sprintf("s%d", i), Type: IPv4Addr}
		if random.IntN(4) == 0 {
			s.Data = IPv4Addr
		}
		for n := range 4 {
			e := Element{Key: Addr(inFamily(IPv4, uint32(n)))}
			if s.Data != 0 {
				e.Data = Addr(inFamily(IPv4, random.Uint32N(2)))
			}
			if random.IntN(2) == 0 {
				s.Elements = s.Elements.With(nil, []Element{e})
			}
		}
		if random.IntN(2) == 0 {
			table.Sets = append(table.Sets, s)
		}
	}
	for i := range 4 {
		c := &Chain{Name: fmt.Sprintf("c%d", i)}
		for _, behind := range table.Chains {
			c.Rules = append(c.Rules, Rule{Jump(behind.Name)})
		}
		for _, s := range table.Sets {
			if s.Data == 0 {
				c.Rules = append(c.Rules, Rule{SaddrIn(IPv4, s.Name), Accept()})
			}
		}
		if random.IntN(2) == 0 {
			table.Chains = append(table.Chains, c)
		}
	}
	return table
}
