package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// A Rule has packets from From, to To, with the given mark look for their route in
// Table, before all rules of a greater Priority; where that has none for them, the next
// rule is asked (ip-rule(8)). With Goto it is the first of that priority, with Nop the
// next. While there is none of the priority in Goto, the rule is passed over
// (net/core/fib_rules.c, fib_rules_lookup), so what it spares packets it does not spare
// them then: see [Rule.Rank].
type Rule struct {
	Priority   uint32
	From       netip.Prefix // of no bits: all of its family
	To         netip.Prefix // zero: anywhere
	Mark, Mask uint32       // of the packet; no mask: whatever
	// In is the interface by which the packet came, there or not; "": any. By "lo" comes
	// what the node itself sends. The reverse path filter asks as if that came by lo, of what
	// is for the node, and by the link that it leaves by, of what is forwarded (IPv4).
	In    string
	Table uint32
	Goto  uint32 // the priority to go on with, greater than Priority; 0: Table says
	Nop   bool   // nothing is looked for: a place to go to

	odd string // what the kernel says of one that is not of this kind
}

// words are those of ip-rule(8) that say what r is.
func (r Rule) words() string {
	from := "all"
	if r.From.Bits() > 0 {
		from = r.From.String()
	}
	s := fmt.Sprintf("priority %d from %s", r.Priority, from)
	if r.To.IsValid() {
		s += " to " + r.To.String()
	}
	if r.Mask != 0 {
		s += fmt.Sprintf(" fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.In != "" {
		s += " iif " + r.In
	}
	switch {
	case r.odd != "": // one to be deleted, whatever it does
	case r.Nop:
		s += " nop"
	case r.Goto != 0:
		s += fmt.Sprintf(" goto %d", r.Goto)
	default:
		s += fmt.Sprintf(" lookup %d", r.Table)
	}
	return s
}

// Rank is the place of r among rules that come together: where one goes to comes before
// that one, and that before what it passes by. They go the other way round.
func (r Rule) Rank() int {
	switch {
	case r.Nop:
		return 0
	case r.Goto != 0:
		return 1
	}
	return 2
}

// Hides reports whether the kernel, which holds r, takes s for it and refuses it: it does not
// compare what s does not ask for, nor where the two lead on (net/core/fib_rules.c, rule_exists;
// net/ipv4/fib_rules.c and net/ipv6/fib6_rules.c, compare).
func (r Rule) Hides(s Rule) bool {
	if r == s || r.From.Addr().Is4() != s.From.Addr().Is4() {
		return false
	}
	if s.From.Bits() == 0 {
		r.From = s.From
	}
	if !s.To.IsValid() {
		r.To = s.To
	}
	if s.Goto != 0 {
		r.Goto = s.Goto
	}
	return r == s
}

// header is struct fib_rule_hdr of Linux include/uapi/linux/fib_rules.h.
type header struct {
	Family, DstLen, SrcLen, Tos byte
	Table, _, _, Action         byte
	Flags                       uint32
}

// What a rule does: FR_ACT_TO_TBL, FR_ACT_GOTO and FR_ACT_NOP of the same file.
const (
	toTable = 1
	toRule  = 2
	nothing = 3
)

func (r Rule) message(typ netlink.HeaderType, flags netlink.HeaderFlags, protocol uint8) (netlink.Message, error) {
	if r.odd != "" {
		return netlink.Message{Header: netlink.Header{Type: typ, Flags: flags}, Data: []byte(r.odd)}, nil
	}
	h := header{Family: unix.AF_INET, SrcLen: uint8(r.From.Bits()), Action: toTable}
	if r.From.Addr().Is6() {
		h.Family = unix.AF_INET6
	}
	attrs := []netlink.Attribute{
		{Type: unix.FRA_PRIORITY, Data: rtnl.Bytes(r.Priority)},
		{Type: unix.FRA_TABLE, Data: rtnl.Bytes(r.Table)},
		{Type: unix.FRA_PROTOCOL, Data: []byte{protocol}},
	}
	if r.Nop {
		h.Action = nothing
	}
	if r.Goto != 0 {
		h.Action = toRule
		attrs = append(attrs, netlink.Attribute{Type: unix.FRA_GOTO, Data: rtnl.Bytes(r.Goto)})
	}
	if r.From.Bits() > 0 {
		attrs = append(attrs, netlink.Attribute{Type: unix.FRA_SRC, Data: r.From.Addr().AsSlice()})
	}
	if r.To.IsValid() {
		h.DstLen = uint8(r.To.Bits())
		attrs = append(attrs, netlink.Attribute{Type: unix.FRA_DST, Data: r.To.Addr().AsSlice()})
	}
	if r.In != "" {
		attrs = append(attrs, netlink.Attribute{Type: unix.FRA_IIFNAME, Data: append([]byte(r.In), 0)})
	}
	if r.Mask != 0 {
		attrs = append(attrs, netlink.Attribute{Type: unix.FRA_FWMARK, Data: rtnl.Bytes(r.Mark)},
			netlink.Attribute{Type: unix.FRA_FWMASK, Data: rtnl.Bytes(r.Mask)})
	}
	return rtnl.NewMessage(typ, flags, h, attrs...)
}

// fromOutside reports whether r is for packets that came by a certain link.
func (r Rule) fromOutside() bool { return r.In != "" && r.In != loopback }

// loopback is the name of that interface.
const loopback = "lo"

// Leads reports whether r is all that the kernel's rule says, and leads to a table what
// may be the node's own.
func (r Rule) Leads() bool {
	return r.odd == "" && !r.Nop && r.Goto == 0 && !r.fromOutside()
}

// ReadRules lists the rules of the given protocol.
func ReadRules(c *rtnl.Conn, protocol uint8) (out []Rule, err error) {
	err = EveryRule(c, func(r Rule, by uint8) {
		if by == protocol {
			out = append(out, r)
		}
	})
	return out, err
}

// EveryRule calls visit with every rule of IPv4 and then of IPv6, in the order in which
// they are asked, and the protocol it bears.
func EveryRule(c *rtnl.Conn, visit func(Rule, uint8)) error {
	for _, family := range families {
		request, err := rtnl.NewMessage(unix.RTM_GETRULE, 0, header{Family: family})
		if err != nil {
			return err
		}
		err = c.List(request, func(answer []byte) {
			if len(answer) > 0 && answer[0] == family {
				visit(ParseRule(answer))
			}
		})
		if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) { // a kernel without the family has none of its rules
			return fmt.Errorf("list routing rules: %w", err)
		}
	}
	return nil
}

// ParseRule is the rule in an answer or announcement, and the protocol that it bears.
func ParseRule(answer []byte) (r Rule, protocol uint8) {
	h, attrs := rtnl.Parse[header](answer)
	from := netip.IPv4Unspecified()
	if h.Family == unix.AF_INET6 {
		from = netip.IPv6Unspecified()
	}
	r.Table, r.Nop = uint32(h.Table), h.Action == nothing
	var to netip.Addr
	odd := h.Action != toTable && h.Action != toRule && h.Action != nothing || h.Tos != 0 || h.Flags&fibRuleInvert != 0
	for typ, value := range attrs {
		switch typ {
		case unix.FRA_SRC:
			from = rtnl.Addr(value)
		case unix.FRA_DST:
			to = rtnl.Addr(value)
		case unix.FRA_IIFNAME:
			r.In = strings.TrimRight(string(value), "\x00")
			odd = odd || r.In == ""
		case unix.FRA_GOTO:
			r.Goto, _ = rtnl.Value[uint32](value)
		case unix.FRA_PRIORITY:
			r.Priority, _ = rtnl.Value[uint32](value)
		case unix.FRA_TABLE:
			r.Table, _ = rtnl.Value[uint32](value)
		case unix.FRA_FWMARK:
			r.Mark, _ = rtnl.Value[uint32](value)
		case unix.FRA_FWMASK:
			r.Mask, _ = rtnl.Value[uint32](value)
		case unix.FRA_PROTOCOL:
			protocol, _ = rtnl.Value[uint8](value)
		case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
			n, _ := rtnl.Value[int32](value)
			odd = odd || n != -1 // which is none
		case unix.FRA_PAD:
		default:
			odd = true
		}
	}
	r.From = netip.PrefixFrom(from, int(h.SrcLen))
	if to.IsValid() || h.DstLen != 0 {
		r.To = netip.PrefixFrom(to, int(h.DstLen))
		odd = odd || !r.To.IsValid() || h.DstLen == 0 || to.Is6() != (h.Family == unix.AF_INET6)
	}
	odd = odd || (h.Action == toRule) != (r.Goto != 0) || h.Action != toTable && r.Table != 0
	if odd || r.Mark&^r.Mask != 0 || !r.From.IsValid() || from.Is6() != (h.Family == unix.AF_INET6) || (h.SrcLen == 0) != from.IsUnspecified() {
		r.odd = string(asked(answer))
	}
	return r, protocol
}

// fibRuleInvert is FIB_RULE_INVERT of include/uapi/linux/fib_rules.h.
const fibRuleInvert = 2

// asked is a rule as one asks for it to be removed: the kernel compares with all that
// it is told (net/core/fib_rules.c, rule_find).
func asked(answer []byte) []byte {
	h, attrs := rtnl.Parse[header](answer)
	h.Flags &= fibRuleInvert
	var list []netlink.Attribute
	for typ, value := range attrs {
		if typ != unix.FRA_PAD {
			list = append(list, netlink.Attribute{Type: typ, Data: value})
		}
	}
	m, err := rtnl.NewMessage(unix.RTM_DELRULE, 0, h, list...)
	if err != nil {
		return rtnl.Bytes(h) // what cannot be said again: of an answer, none
	}
	return m.Data
}

// An AddRule makes the kernel hold a rule.
type AddRule struct {
	Rule
	Protocol uint8
}

// String is the command of ip(8).
func (a AddRule) String() string {
	return fmt.Sprintf("ip%s rule add %s protocol %d", dash6(a.From), a.words(), a.Protocol)
}

// Message is part of rtnl.Change.
func (a AddRule) Message(*rtnl.Conn) (netlink.Message, error) {
	return a.message(unix.RTM_NEWRULE, netlink.Create|netlink.Excl, a.Protocol)
}

// Refused is part of rtnl.Change.
func (a AddRule) Refused(_ *rtnl.Conn, err error) error { return err }

// A DeleteRule removes a rule.
type DeleteRule struct {
	Rule
	Protocol uint8
}

// String is the command of ip(8).
func (d DeleteRule) String() string {
	return fmt.Sprintf("ip%s rule del %s protocol %d", dash6(d.From), d.words(), d.Protocol)
}

// Message is part of rtnl.Change.
func (d DeleteRule) Message(*rtnl.Conn) (netlink.Message, error) {
	return d.message(unix.RTM_DELRULE, 0, d.Protocol)
}

// Refused is part of rtnl.Change. A rule that is gone is as wanted.
func (d DeleteRule) Refused(_ *rtnl.Conn, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}
