package nft

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

func small() *Table {
	return &Table{
		Name: "t",
		Sets: []*Set{
			{Name: "inside", Type: IPv4Addr, Interval: true, Elements: Prefixes(prefixes("10.0.0.0/8", "192.168.0.0/16"))},
			{Name: "protocols", Type: InetProto, Elements: Protocols(6, 17)},
		},
		Chains: []*Chain{
			{Name: "postrouting", Type: NAT, Hook: Postrouting, Priority: 99, Rules: []Rule{
				{DaddrNotIn(IPv4, "inside"), Goto("outside")},
			}},
			{Name: "outside", Rules: []Rule{
				{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999}},
				{Masquerade{}},
			}},
		},
	}
}

// Whatever somebody does to our table by hand is found, and undone.
func TestWhatSomebodyChangesIsRepaired(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"chain flushed":        "flush chain inet t outside",
		"rule added":           "add rule inet t outside accept",
		"rule put first":       "insert rule inet t postrouting accept",
		"rule in our place":    "flush chain inet t outside; add rule inet t outside meta l4proto 6 masquerade to :1-2; add rule inet t outside masquerade",
		"flag added":           "flush chain inet t outside; add rule inet t outside meta l4proto 6 masquerade to :32768-60999 fully-random; add rule inet t outside masquerade",
		"rules swapped":        "flush chain inet t outside; add rule inet t outside masquerade; add rule inet t outside meta l4proto 6 masquerade to :32768-60999",
		"element deleted":      "delete element inet t inside { 10.0.0.0/8 }",
		"element added":        "add element inet t inside { 172.16.0.0/12 }",
		"range to the end":     "add element inet t inside { 240.0.0.0-255.255.255.255 }",
		"element made smaller": "delete element inet t inside { 10.0.0.0/8 }; add element inet t inside { 10.0.0.0/9 }",
		"set flushed":          "flush set inet t inside",
		"protocol added":       "add element inet t protocols { 132 }",
		"set added":            "add set inet t more { type ipv4_addr; }",
		"chain added":          "add chain inet t more",
		"base chain added":     "add chain inet t more { type filter hook forward priority 0; policy drop; }",
		"chain in a rule":      "add rule inet t outside jump { accept; }",
		"chains in a circle":   "add chain inet t a; add chain inet t b; add rule inet t a jump b; add map inet t m { type ipv4_addr : verdict; }; add element inet t m { 10.0.0.1 : jump b }; add rule inet t a ip saddr vmap @m; add rule inet t outside jump a",
		"another policy":       "add chain inet t postrouting { type nat hook postrouting priority 99; policy drop; }",
		"table deleted":        "delete table inet t",
		"table put to sleep":   "add table inet t { flags dormant; }",
		"set of another type":  "flush chain inet t postrouting; delete set inet t inside; add set inet t inside { type ipv6_addr; flags interval; }",
		"chain elsewhere":      "delete chain inet t postrouting; add chain inet t postrouting { type nat hook postrouting priority 98; }",
		"table of our name":    "add table inet t-old; add chain inet t-old c { type filter hook forward priority 0; policy drop; }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := netnstest.New(t)
			apply(t, h, small())
			before := nft(t, h, "-s", "list", "ruleset")
			load(t, h, strings.ReplaceAll(script, "; add", "\nadd")+"\n")
			if gocmp.Equal(before, nft(t, h, "-s", "list", "ruleset")) {
				t.Fatal("nothing was changed")
			}
			if len(diff(h, small())) == 0 {
				t.Error("not found")
			}
			apply(t, h, small())
			if d := gocmp.Diff(before, nft(t, h, "-s", "list", "ruleset")); d != "" {
				t.Errorf("not repaired (-before +after):\n%s", d)
			}
		})
	}
}

// Tables of others are neither listed nor touched.
func TestTablesOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	load(t, h, "table ip t { chain c { accept; }; }\ntable inet other { set s { type ipv4_addr; }; }\n")
	before := nft(t, h, "list", "ruleset")
	apply(t, h, small())
	apply(t, h)
	if d := gocmp.Diff(before, nft(t, h, "list", "ruleset")); d != "" {
		t.Errorf("others' tables (-before +after):\n%s", d)
	}
}

// A refused step must leave nothing of the transaction behind.
func TestTransactionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	broken := small()
	broken.Chains[1].Rules = append(broken.Chains[1].Rules, Rule{Goto("nowhere")})
	h.Do(func() error {
		if err := Apply(addTable(broken)); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("a jump to nowhere: %v", err)
		}
		return nil
	})
	if left := nft(t, h, "list", "ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// Counters must survive: what they counted is no difference.
func TestCountingChangesNothing(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	table := &Table{Name: "t", Chains: []*Chain{{Name: "c", Type: Filter, Hook: Postrouting, Rules: []Rule{{Counter(), Accept()}}}}}
	apply(t, h, table)
	nft(t, h, "add rule inet t c counter packets 7 bytes 700 accept") // as if the first had counted
	table.Chains[0].Rules = append(table.Chains[0].Rules, Rule{Counter(), Accept()})
	if left := diff(h, table); len(left) > 0 {
		t.Errorf("still to do:\n%s", Text(left))
	}
	h.Do(func() error {
		found, err := Read("t")
		if got := found[0].Packets("c"); got != 7 {
			t.Errorf("counted %d packets, want 7", got)
		}
		return err
	})
}
