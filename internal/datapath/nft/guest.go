package nft

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/nfnl"
)

// A Place is a chain that is somebody else's, of a table of one family.
type Place struct {
	Family Family
	Table  string
	Chain  string
}

func (p Place) String() string { return p.Family.Keyword() + " " + p.Table + " " + p.Chain }

// A Guest is a rule of ours in somebody else's chain, which accepts what comes in
// by some interfaces, or leaves by some. It is told from others' by its comment,
// and is written so that iptables-nft(8), whose chain it may be, shows and deletes
// it like one of its own.
type Guest struct {
	Place
	Mark     string // the comment
	Iif, Oif string // as for [IIFName]; "" for any
	// Handle is the kernel's number of a rule that bears the mark and says something
	// else, or the same again; 0 for one that can be wanted.
	Handle uint64
}

func (g Guest) rule() Rule {
	var r Rule
	if g.Iif != "" {
		r = append(r, IIFName(g.Iif))
	}
	if g.Oif != "" {
		r = append(r, OIFName(g.Oif))
	}
	return append(r, Counter(), Accept())
}

// String is the command that puts the rule in.
func (g Guest) String() string {
	return fmt.Sprintf("nft insert rule %s %s comment %q", g.Place, g.rule(), g.Mark)
}

// Gone is a Guest to be taken away. It prints itself as the command for it.
type Gone struct{ Guest }

func (g Gone) String() string {
	if g.Handle != 0 {
		return fmt.Sprintf("nft delete rule %s handle %d", g.Place, g.Handle)
	}
	program := map[Family]string{IPv4: "iptables-nft", IPv6: "ip6tables-nft"}[g.Family]
	words := []string{program, "-t", g.Table, "-D", g.Chain}
	if g.Iif != "" {
		words = append(words, "-i", wildcard(g.Iif))
	}
	if g.Oif != "" {
		words = append(words, "-o", wildcard(g.Oif))
	}
	return strings.Join(append(words, "-m", "comment", "--comment", g.Mark, "-j", "ACCEPT"), " ")
}

// wildcard is a pattern of names as iptables(8) has it.
func wildcard(name string) string {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return prefix + "+"
	}
	return name
}

// Insert puts the rule at the head of its chain. Without the chain there is nothing
// to accept in it.
func (g Guest) Insert() error {
	if open, err := g.open(); !open || err != nil {
		return err
	}
	err := send([]step{{msg: unix.NFT_MSG_NEWRULE, flags: netlink.Create, family: g.Family.Number(), attrs: []attr{
		str(unix.NFTA_RULE_TABLE, g.Table), str(unix.NFTA_RULE_CHAIN, g.Chain),
		nest(unix.NFTA_RULE_EXPRESSIONS, g.rule().expressions()...), raw(unix.NFTA_RULE_USERDATA, comment(g.Mark)),
	}}})
	return g.unlessGone(err)
}

// Delete takes the rule away: the one with its handle, or one that says the same.
func (g Guest) Delete() error {
	handle := g.Handle
	if handle == 0 {
		_, err := g.visit(g.Mark, func(found Guest, at uint64) {
			if found == g {
				handle = at
			}
		})
		if err != nil || handle == 0 {
			return err
		}
	}
	return g.unlessGone(send([]step{{msg: unix.NFT_MSG_DELRULE, family: g.Family.Number(), attrs: []attr{
		str(unix.NFTA_RULE_TABLE, g.Table), str(unix.NFTA_RULE_CHAIN, g.Chain), {typ: unix.NFTA_RULE_HANDLE, data: be64(handle)},
	}}}))
}

func (g Guest) unlessGone(err error) error {
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("%s: %w", g, err)
}

// Guests returns the rules in p that bear the mark, and whether p is a chain whose
// rules packets on their way through the node meet.
func (p Place) Guests(mark string) (guests []Guest, open bool, err error) {
	for range 10 {
		if guests, open, err = p.guests(mark); !errors.Is(err, nfnl.ErrChanged) {
			break
		}
	}
	return guests, open, err
}

func (p Place) guests(mark string) (guests []Guest, open bool, err error) {
	seen := map[Guest]bool{}
	open, err = p.visit(mark, func(g Guest, handle uint64) {
		if seen[g] || g.Iif == "" && g.Oif == "" {
			g = Guest{Place: p, Mark: mark, Handle: handle}
		}
		seen[g] = true
		guests = append(guests, g)
	})
	return guests, open, err
}

// visit visits the rules in p that bear the mark. One that says what no Guest does
// has no interface. Others' rules, which may be many, are not looked into.
func (p Place) visit(mark string, found func(Guest, uint64)) (open bool, err error) {
	open, err = p.open()
	if err != nil {
		return false, err
	}
	where := append(nfnl.String(unix.NFTA_RULE_TABLE, p.Table), nfnl.String(unix.NFTA_RULE_CHAIN, p.Chain)...)
	err = nfnl.List(unix.NFT_MSG_GETRULE, p.Family.Number(), where, func(_ byte, b []byte) bool {
		if bytes.Contains(b, []byte(mark)) {
			a := decode(b)
			if g, ok := p.read(mark, a); ok {
				found(g, a.u64(unix.NFTA_RULE_HANDLE))
			}
		}
		return true
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // which some kernels say of a table that there is not
		return false, fmt.Errorf("list chain %s: %w", p, err)
	}
	return open, nil
}

// open reports whether p is a base chain of the forward hook.
func (p Place) open() (bool, error) {
	c, err := dial(0)
	if err != nil {
		return false, err
	}
	defer c.Close()
	m := message(p.Family.Number(), unix.NFT_MSG_GETCHAIN, netlink.Request, []attr{str(unix.NFTA_CHAIN_TABLE, p.Table), str(unix.NFTA_CHAIN_NAME, p.Chain)})
	replies, err := c.Execute(m)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for chain %s: %w", p, err)
	}
	for _, r := range replies {
		if len(r.Data) < 4 {
			continue
		}
		if hook, ok := decode(r.Data[4:])[unix.NFTA_CHAIN_HOOK]; ok {
			return hookName(Inet, decode(hook).u32(unix.NFTA_HOOK_HOOKNUM)) == Forward, nil
		}
	}
	return false, nil
}

// read makes a Guest of a rule that bears the mark, in either of the ways to write a
// comment: nft(8)'s, beside the rule, or iptables-nft(8)'s, as a match that always
// does. The latter is what our rules become when somebody saves and restores them.
func (p Place) read(mark string, a attrSet) (Guest, bool) {
	g := Guest{Place: p, Mark: mark}
	bears, plain, accepts := bytes.Contains(a[unix.NFTA_RULE_USERDATA], comment(mark)), true, false
	var loaded uint32
	list(a[unix.NFTA_RULE_EXPRESSIONS], func(_ uint16, body []byte) {
		expr := decode(body)
		inner := decode(expr[unix.NFTA_EXPR_DATA])
		switch name := expr.str(unix.NFTA_EXPR_NAME); name {
		case "meta":
			loaded = inner.u32(unix.NFTA_META_KEY)
		case "cmp":
			pattern := ifnamePattern(value(inner[unix.NFTA_CMP_DATA]))
			switch {
			case inner.u32(unix.NFTA_CMP_OP) != unix.NFT_CMP_EQ:
				plain = false
			case loaded == unix.NFT_META_IIFNAME:
				g.Iif = pattern
			case loaded == unix.NFT_META_OIFNAME:
				g.Oif = pattern
			default:
				plain = false
			}
		case "match":
			text, _, _ := bytes.Cut(inner[unix.NFTA_MATCH_INFO], []byte{0})
			if inner.str(unix.NFTA_MATCH_NAME) == "comment" && string(text) == mark {
				bears = true
			} else {
				plain = false
			}
		case "counter":
		case "immediate":
			verdict := decode(decode(inner[unix.NFTA_IMMEDIATE_DATA])[unix.NFTA_DATA_VERDICT])
			accepts = verdict.u32(unix.NFTA_VERDICT_CODE) == nfAccept
		default:
			plain = false
		}
	})
	if !plain || !accepts {
		g.Iif, g.Oif = "", ""
	}
	return g, bears
}

// ifnamePattern is the name, or beginning of one, that a rule compares with.
func ifnamePattern(b string) string {
	if name, _, exact := strings.Cut(b, "\x00"); exact {
		return name
	}
	return b + "*"
}

// comment is how nft(8) keeps the comment of a rule, with the kernel, for itself:
// type, length and text with its end (NFTNL_UDATA_RULE_COMMENT of libnftnl).
func comment(text string) []byte {
	return append(append([]byte{0, byte(len(text) + 1)}, text...), 0)
}
