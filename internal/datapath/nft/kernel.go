package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Found is a table as the kernel holds it.
type Found struct {
	Family  TableFamily
	Name    string
	Foreign bool // it is as only others make it: asleep, or with chains that have no name
	Sets    []*Set
	Chains  []*FoundChain
}

// A FoundChain is a chain as the kernel holds it; its rules are bytecode, and
// Rules are empty.
type FoundChain struct {
	Chain
	Code []FoundRule
}

// A FoundRule is one rule's expressions as the kernel lists them.
type FoundRule []byte

// is reports whether the kernel's rule does what r says. What a counter has
// counted makes no difference.
func (f FoundRule) is(r Rule) bool {
	want := r.code()
	n, equal := 0, true
	list(f, func(_ uint16, body []byte) {
		expr := decode(body)
		name := expr.str(unix.NFTA_EXPR_NAME)
		says := decode(expr[unix.NFTA_EXPR_DATA])
		delete(says, untold[name])
		if n >= len(want) || want[n].name != name ||
			name != "counter" && !same(want[n].attrs, says, known[name]) {
			equal = false
		}
		n++
	})
	return equal && n == len(want)
}

// packets returns what the rule's counter has counted, if it has one.
func (f FoundRule) packets() (packets uint64, ok bool) {
	list(f, func(_ uint16, body []byte) {
		if n, is := counted(decode(body)); is {
			packets, ok = n, true
		}
	})
	return packets, ok
}

// Packets sums what the counters in the named chain have counted.
func (f *Found) Packets(chain string) uint64 {
	var sum uint64
	for _, c := range f.Chains {
		for _, r := range c.Code {
			if n, ok := r.packets(); ok && c.Name == chain {
				sum += n
			}
		}
	}
	return sum
}

// errDumpChanged: the tables changed while they were listed; list them again.
var errDumpChanged = errors.New("tables changed while they were listed")

// Glance is Read without waiting for a moment in which nothing changes. What
// comes or goes meanwhile makes it miss something that is there all the time.
func Glance(prefix string) ([]*Found, error) { return read(prefix, lister{changing: true}) }

// Read returns the tables of our families whose names begin with prefix, sorted by name.
func Read(prefix string) ([]*Found, error) {
	for try := 0; ; try++ {
		tables, err := read(prefix, lister{})
		if err == nil || !errors.Is(err, errDumpChanged) || try == 10 {
			return tables, err
		}
	}
}

// Not in x/sys; from include/uapi/linux/netfilter/nf_tables.h.
const (
	tableDormant = 1 << 0 // NFT_TABLE_F_DORMANT: it holds everything and does nothing
	chainBinding = 1 << 2 // NFT_CHAIN_BINDING: it is part of the rule that jumps to it

	nftaChainFlags = 10
)

// A lister asks for what the kernel holds.
type lister struct {
	*netlink.Conn
	family   TableFamily // of what is listed
	changing bool        // what changes while it is listed does not matter
}

func read(prefix string, c lister) (out []*Found, err error) {
	if c.Conn, err = dial(listBuffer); err != nil {
		return nil, err
	}
	defer c.Close()
	for _, c.family = range tableFamilies {
		err = c.dump(unix.NFT_MSG_GETTABLE, nil, func(a attrSet) error {
			if name := a.str(unix.NFTA_TABLE_NAME); strings.HasPrefix(name, prefix) {
				out = append(out, &Found{Family: c.family, Name: name, Foreign: a.u32(unix.NFTA_TABLE_FLAGS)&tableDormant != 0})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list tables: %w", err)
		}
	}
	slices.SortStableFunc(out, func(a, b *Found) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range out {
		c.family = t.Family
		if err := errors.Join(c.readSets(t), c.readChains(t)); err != nil {
			return nil, fmt.Errorf("list table %s: %w", t.Name, err)
		}
	}
	return out, nil
}

func (c lister) readSets(t *Found) error {
	inTable := []attr{str(unix.NFTA_SET_TABLE, t.Name)}
	err := c.dump(unix.NFT_MSG_GETSET, inTable, func(a attrSet) error {
		if a.str(unix.NFTA_SET_TABLE) == t.Name && a.u32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_ANONYMOUS == 0 {
			s := &Set{
				Name: a.str(unix.NFTA_SET_NAME), Type: Type(a.u32(unix.NFTA_SET_KEY_TYPE)),
				Interval: a.u32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_INTERVAL != 0,
				Data:     Type(a.u32(unix.NFTA_SET_DATA_TYPE)),
				Counted:  a.counts(),
				Room:     decode(a[unix.NFTA_SET_DESC]).u32(unix.NFTA_SET_DESC_SIZE),
			}
			s.DataInterval = s.Data != 0 && a.u32(unix.NFTA_SET_DATA_LEN) == 2*s.Data.size()
			t.Sets = append(t.Sets, s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range t.Sets {
		if err := c.readElements(t.Name, s); err != nil {
			return err
		}
	}
	return nil
}

// bound is one element as the kernel lists it: in an interval set, a start or
// the first value behind a range.
type bound struct {
	key  string
	data string
	end  bool
}

// readElements lists the elements of s. While the kernel moves the elements of a
// growing hash table, a listing of more than one message misses some and does
// not say so (nft_rhash_walk of net/netfilter/nft_set_hash.c): such a one counts
// when the next is the same.
func (c lister) readElements(table string, s *Set) error {
	for range 10 {
		last := s.Elements
		messages, err := c.listElements(table, s)
		if err != nil || c.changing || messages <= 1 || s.Interval || last.Equal(s.Elements) {
			return err
		}
	}
	return errDumpChanged
}

func (c lister) listElements(table string, s *Set) (messages int, err error) {
	var found []Element
	var bounds []bound
	of := []attr{str(unix.NFTA_SET_ELEM_LIST_TABLE, table), str(unix.NFTA_SET_ELEM_LIST_SET, s.Name)}
	err = c.dump(unix.NFT_MSG_GETSETELEM, of, func(a attrSet) error {
		messages++
		list(a[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, body []byte) {
			var b bound
			list(body, func(typ uint16, body []byte) {
				switch typ {
				case unix.NFTA_SET_ELEM_KEY:
					b.key = value(body)
				case unix.NFTA_SET_ELEM_DATA:
					b.data = value(body)
				case unix.NFTA_SET_ELEM_FLAGS:
					b.end = len(body) == 4 && binary.BigEndian.Uint32(body)&unix.NFT_SET_ELEM_INTERVAL_END != 0
				}
			})
			if s.Interval {
				bounds = append(bounds, b)
			} else {
				found = append(found, Element{Key: b.key, Data: b.data})
			}
		})
		return nil
	})
	if s.Interval {
		found = elements(bounds)
	}
	s.Elements = Sorted(found)
	return messages, err
}

// value is the NFTA_DATA_VALUE in b.
func value(b []byte) (v string) {
	list(b, func(typ uint16, body []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			v = string(body)
		}
	})
	return v
}

// elements joins starts and ends to ranges. An end that closes nothing (nft(8)
// writes one at the very beginning) is left out.
func elements(bounds []bound) []Element {
	slices.SortFunc(bounds, func(a, b bound) int {
		if c := strings.Compare(a.key, b.key); c != 0 || a.end == b.end {
			return c
		}
		if a.end {
			return -1
		}
		return 1
	})
	var out []Element
	for i, b := range bounds {
		if b.end {
			continue
		}
		e := Element{Key: b.key, Data: b.data}
		if i+1 < len(bounds) && bounds[i+1].end {
			e.End = bounds[i+1].key
		}
		out = append(out, e)
	}
	return out
}

func (c lister) readChains(t *Found) error {
	at := map[string]*FoundChain{}
	err := c.dump(unix.NFT_MSG_GETCHAIN, nil, func(a attrSet) error {
		if a.str(unix.NFTA_CHAIN_TABLE) != t.Name {
			return nil
		}
		ch := &FoundChain{Chain: Chain{Name: a.str(unix.NFTA_CHAIN_NAME), Type: ChainType(a.str(unix.NFTA_CHAIN_TYPE))}}
		if hook, ok := a[unix.NFTA_CHAIN_HOOK]; ok {
			h := decode(hook)
			ch.Hook = hookName(t.Family, h.u32(unix.NFTA_HOOK_HOOKNUM))
			ch.Device = h.str(unix.NFTA_HOOK_DEV) // of a chain with none, or several: nothing
			ch.Priority = int(int32(h.u32(unix.NFTA_HOOK_PRIORITY)))
			if a.u32(unix.NFTA_CHAIN_POLICY) != nfAccept {
				ch.Type += " with another policy" // somebody changed it: differs from anything wanted
			}
		}
		if a.u32(nftaChainFlags)&chainBinding != 0 {
			t.Foreign = true
		}
		at[ch.Name] = ch
		t.Chains = append(t.Chains, ch)
		return nil
	})
	if err != nil {
		return err
	}
	return c.dump(unix.NFT_MSG_GETRULE, []attr{str(unix.NFTA_RULE_TABLE, t.Name)}, func(a attrSet) error {
		if ch, ok := at[a.str(unix.NFTA_RULE_CHAIN)]; ok && a.str(unix.NFTA_RULE_TABLE) == t.Name {
			ch.Code = append(ch.Code, slices.Clone(a[unix.NFTA_RULE_EXPRESSIONS]))
		}
		return nil
	})
}

// listBuffer takes the pieces of a list. The kernel makes none larger than what is there
// for it.
const listBuffer = 128 << 10

// dial begins a conversation; 0: without a buffer of its own, for short answers.
func dial(buffer int) (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: buffer})
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	// Best effort: older kernels answer without the extra text.
	_ = c.SetOption(netlink.ExtendedAcknowledge, true)
	return c, nil
}

// dump lists kernel objects of the family. No such table or set is no
// error: it went while we were listing.
func (c lister) dump(msg uint16, filter []attr, visit func(attrSet) error) error {
	m := message(c.family.number(), msg, netlink.Request|netlink.Dump, filter)
	if _, err := c.Send(m); err != nil {
		return err
	}
	for r, err := range c.ReceiveIter() {
		if errors.Is(err, unix.ENOENT) {
			return errDumpChanged
		}
		if err != nil {
			return err
		}
		if r.Header.Flags&unix.NLM_F_DUMP_INTR != 0 && !c.changing {
			return errDumpChanged
		}
		if len(r.Data) < 4 {
			continue
		}
		if err := visit(decode(r.Data[4:])); err != nil {
			return err
		}
	}
	return nil
}

// message is one netlink message to nftables about a family, as the kernel counts.
func message(family byte, msg uint16, flags netlink.HeaderFlags, attrs []attr) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | msg), Flags: flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, encode(attrs)...),
	}
}
