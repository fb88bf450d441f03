package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nfnl"
	"fairlead.dev/fairlead/internal/world"
)

// families are those of nftables whose forward hook IP packets meet.
var families = map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6"}

// Bounds of what is read of others' rules. What is beyond is not known.
const (
	mostRules    = 4096 // of all chains together
	mostElements = 256  // of a set
)

// A table is one of somebody else's, as far as it was read.
type table struct {
	family  byte
	name    string
	chains  map[string]*chain // nil: more than is read
	left    *int              // of mostRules
	ours    map[string]int    // rules of ours that accept, by chain
	watched map[Chain]bool
	failed  error
}

// base is a base chain of the forward hook.
type base struct {
	table  *table
	name   string
	policy outcome
}

// nftables looks into all tables but ours.
func (l *look) nftables() error {
	before, err := generation()
	if err != nil {
		return err
	}
	bases, err := l.bases()
	if err != nil {
		return err
	}
	for _, b := range bases {
		filter := world.Filter{Family: families[b.table.family], Table: b.table.name, Chain: b.name}
		for _, ipv6 := range []bool{false, true} {
			if b.table.family == unix.NFPROTO_IPV4 && ipv6 || b.table.family == unix.NFPROTO_IPV6 && !ipv6 {
				continue
			}
			l.judge(filter, ipv6, b.outcome)
		}
		const both = 2
		for i := range l.Drops {
			l.Drops[i].Accepting = l.Drops[i].Accepting || l.Drops[i].Filter == filter && b.table.ours[b.name] >= both
		}
		if b.table.failed != nil {
			return b.table.failed
		}
	}
	after, err := generation()
	if err == nil && after != before {
		err = nfnl.ErrChanged
	}
	return err
}

func (b base) outcome(f flow) outcome {
	w := &walk{flow: f, load: b.table.chain, done: map[string]outcome{}}
	return w.base(b.name, b.policy)
}

// generation is the number of the last change to any rule.
func generation() (uint32, error) {
	object, err := nfnl.Get(unix.NFT_MSG_GETGEN, unix.NFPROTO_UNSPEC, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of rules: %w", err)
	}
	return parse(object).u32(unix.NFTA_GEN_ID), nil
}

// bases are others' base chains of the forward hook.
func (l *look) bases() ([]base, error) {
	const (
		dormant      = 1 // NFT_TABLE_F_DORMANT: its chains stand in no hook
		forwardHook  = 2 // NF_INET_FORWARD
		policyAccept = 1
	)
	tables, left := map[string]*table{}, mostRules
	key := func(family byte, name string) string { return string(family) + name }
	err := nfnl.List(unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC, nil, func(family byte, b []byte) bool {
		a := parse(b)
		name := a.str(unix.NFTA_TABLE_NAME)
		if families[family] != "" && !strings.HasPrefix(name, datapath.TablePrefix) && a.u32(unix.NFTA_TABLE_FLAGS)&dormant == 0 {
			tables[key(family, name)] = &table{family: family, name: name, chains: map[string]*chain{}, ours: map[string]int{}, left: &left, watched: l.watched}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var out []base
	err = nfnl.List(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, nil, func(family byte, b []byte) bool {
		if families[family] == "" {
			return true
		}
		a := parse(b)
		hook, ok := a[unix.NFTA_CHAIN_HOOK]
		t := tables[key(family, a.str(unix.NFTA_CHAIN_TABLE))]
		if !ok || t == nil || parse(hook).u32(unix.NFTA_HOOK_HOOKNUM) != forwardHook {
			return true
		}
		one := base{table: t, name: a.str(unix.NFTA_CHAIN_NAME), policy: accepted}
		if a.u32(unix.NFTA_CHAIN_POLICY) != policyAccept {
			one.policy = outcome{drop: true, by: "its policy, which is to drop"}
		}
		out = append(out, one)
		return true
	})
	return out, err
}

// chain is one of the table's, with its rules.
func (t *table) chain(name string) (*chain, bool) {
	c, seen := t.chains[name]
	if seen || t.failed != nil {
		return c, c != nil
	}
	t.watched[Chain{t.family, t.name, name}] = true
	c = &chain{name: name}
	where := append(nfnl.String(unix.NFTA_RULE_TABLE, t.name), nfnl.String(unix.NFTA_RULE_CHAIN, name)...)
	number := 0
	err := nfnl.List(unix.NFT_MSG_GETRULE, t.family, where, func(_ byte, b []byte) bool {
		number++
		if *t.left--; *t.left < 0 {
			c = nil
			return false
		}
		if bytes.Contains(b, []byte(datapath.AcceptMark)) {
			t.ours[name]++
		}
		c.rules = append(c.rules, t.rules(b, func(does string) string { return describe(does, number, name) })...)
		return true
	})
	if err != nil {
		t.failed, c = err, nil
	}
	t.chains[name] = c
	return c, c != nil
}

// rules are what one rule of the kernel's says.
func (t *table) rules(b []byte, described func(string) string) []rule {
	r := &reading{table: t, described: described, registers: map[uint32]value{}, rule: rule{then: passed}}
	nfnl.Each(parse(slices.Clone(b))[unix.NFTA_RULE_EXPRESSIONS], func(_ uint16, body []byte) { r.expression(body) })
	return append(r.rules, r.rule)
}

// An element is one of a set or map without a name.
type element struct {
	key     []byte
	verdict attributes
}

// elements are those of the named set, if it never changes and is small.
func (t *table) elements(set string) ([]element, bool) {
	in := append(nfnl.String(unix.NFTA_SET_TABLE, t.name), nfnl.String(unix.NFTA_SET_NAME, set)...)
	object, err := nfnl.Get(unix.NFT_MSG_GETSET, t.family, in)
	flags := parse(object).u32(unix.NFTA_SET_FLAGS)
	if err != nil || flags&unix.NFT_SET_ANONYMOUS == 0 || flags&unix.NFT_SET_INTERVAL != 0 {
		return nil, false
	}
	var out []element
	of := append(nfnl.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.name), nfnl.String(unix.NFTA_SET_ELEM_LIST_SET, set)...)
	plain := true
	err = nfnl.List(unix.NFT_MSG_GETSETELEM, t.family, of, func(_ byte, b []byte) bool {
		nfnl.Each(parse(slices.Clone(b))[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, body []byte) {
			a := parse(body)
			e := element{key: dataOf(a[unix.NFTA_SET_ELEM_KEY]), verdict: parse(parse(a[unix.NFTA_SET_ELEM_DATA])[unix.NFTA_DATA_VERDICT])}
			plain = plain && a.u32(unix.NFTA_SET_ELEM_FLAGS) == 0 && len(e.key) > 0 // no catch-all
			out = append(out, e)
		})
		return len(out) <= mostElements
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		t.failed = err
	}
	return out, err == nil && plain && len(out) <= mostElements
}
