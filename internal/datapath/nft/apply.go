package nft

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A step is one message of a transaction.
type step struct {
	msg    uint16
	flags  netlink.HeaderFlags
	attrs  []attr
	family byte // of the table, as the kernel counts
}

// step is one about t.
func (t tableID) step(msg uint16, flags netlink.HeaderFlags, attrs ...attr) step {
	return step{msg, flags, attrs, t.family.number()}
}

// elementsPerMessage keeps the list of elements below 64 KiB, the size of the
// netlink attribute that holds it.
const elementsPerMessage = 500

func addTable(t *Table) []Change {
	id := t.id()
	out := []Change{{text: "add table " + id.String(), made: true, send: []step{
		id.step(unix.NFT_MSG_NEWTABLE, netlink.Create, str(unix.NFTA_TABLE_NAME, t.Name)),
	}}}
	for i, s := range t.Sets {
		out = append(out, addSet(id, s, uint32(i+1)))
		out = append(out, addElements(id, s, s.Elements.list.Slice())...)
	}
	// Every chain before any rule: a rule may go to a later chain.
	for _, c := range t.Chains {
		out = append(out, addChain(id, c))
	}
	for _, c := range t.Chains {
		out = append(out, addRules(id, c)...)
	}
	return out
}

func deleteTable(t tableID) Change {
	return Change{text: "delete table " + t.String(), send: []step{t.step(unix.NFT_MSG_DELTABLE, 0, str(unix.NFTA_TABLE_NAME, t.name))}}
}

func addSet(table tableID, s *Set, id uint32) Change {
	text := fmt.Sprintf("add %s %s %s { type %s; ", s.keyword(), table, s.Name, s.types())
	var flags uint32
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
		text += "flags interval; "
	}
	if s.Room > 0 {
		text += fmt.Sprintf("size %d; ", s.Room)
	}
	if s.Counted {
		text += "counter; "
	}
	attrs := []attr{
		str(unix.NFTA_SET_TABLE, table.name), str(unix.NFTA_SET_NAME, s.Name),
		u32(unix.NFTA_SET_KEY_TYPE, uint32(s.Type)), u32(unix.NFTA_SET_KEY_LEN, s.Type.size()), u32(unix.NFTA_SET_ID, id),
	}
	if s.Data != 0 {
		flags |= unix.NFT_SET_MAP
		attrs = append(attrs, u32(unix.NFTA_SET_DATA_TYPE, uint32(s.Data)), u32(unix.NFTA_SET_DATA_LEN, s.dataSize()))
	}
	if s.Room > 0 {
		attrs = append(attrs, nest(unix.NFTA_SET_DESC, u32(unix.NFTA_SET_DESC_SIZE, s.Room)))
	}
	if notes := s.notes(); notes != nil {
		attrs = append(attrs, raw(unix.NFTA_SET_USERDATA, notes))
	}
	attrs = append(attrs, u32(unix.NFTA_SET_FLAGS, flags))
	if s.Counted {
		attrs = append(attrs, nest(nftaSetExpr, str(unix.NFTA_EXPR_NAME, "counter")))
	}
	return Change{text: text + "}", send: []step{table.step(unix.NFT_MSG_NEWSET, netlink.Create, attrs...)}}
}

// dataSize is the size of a value in bytes: of a range, first and last.
func (s *Set) dataSize() uint32 {
	if s.DataInterval {
		return 2 * s.Data.size()
	}
	return s.Data.size()
}

// notes are what nft(8) notes for itself, with the kernel, to list a set by.
func (s *Set) notes() (out []byte) {
	if s.Type.hostOrdered() {
		out = append(out, hostOrder...)
	}
	if s.Data.hostOrdered() {
		out = append(out, dataHostOrder...)
	}
	if s.DataInterval {
		out = append(out, dataInterval...)
	}
	return out
}

// hostOrder is how it notes that keys are not in network order: type, length and
// the number 1 (NFTNL_UDATA_SET_KEYBYTEORDER of libnftnl, BYTEORDER_HOST_ENDIAN).
var hostOrder = append([]byte{0, 4}, host32(1)...)

// dataHostOrder is how it notes the same of values (NFTNL_UDATA_SET_DATABYTEORDER).
var dataHostOrder = append([]byte{1, 4}, host32(1)...)

// dataInterval is how it notes that values are ranges: type, length and the number 1
// (NFTNL_UDATA_SET_DATA_INTERVAL of
// libnftnl). For the kernel, values are only twice as long.
var dataInterval = append([]byte{6, 4}, host32(1)...)

func deleteSet(table tableID, s *Set) Change {
	return Change{text: fmt.Sprintf("delete %s %s %s", s.keyword(), table, s.Name), send: []step{table.step(unix.NFT_MSG_DELSET, 0,
		str(unix.NFTA_SET_TABLE, table.name), str(unix.NFTA_SET_NAME, s.Name))}}
}

func addElements(table tableID, s *Set, elements []Element) []Change {
	return elementVerb{"add", unix.NFT_MSG_NEWSETELEM, netlink.Create}.changes(table, s, elements)
}

func deleteElements(table tableID, s *Set, elements []Element) []Change {
	return elementVerb{"delete", unix.NFT_MSG_DELSETELEM, 0}.changes(table, s, elements)
}

// elementVerb is what can be done to elements: the word and the message for it.
type elementVerb struct {
	word  string
	msg   uint16
	flags netlink.HeaderFlags
}

func (v elementVerb) changes(table tableID, s *Set, elements []Element) []Change {
	var out []Change
	for chunk := range slices.Chunk(elements, elementsPerMessage) {
		var items []byte // laid out at once: there may be 100,000 of them
		for _, e := range chunk {
			items = append(items, encode(s.items(e))...)
		}
		attrs := []attr{
			str(unix.NFTA_SET_ELEM_LIST_TABLE, table.name), str(unix.NFTA_SET_ELEM_LIST_SET, s.Name),
			raw(unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, slices.Clip(items)),
		}
		text := fmt.Sprintf("%s element %s %s", v.word, table, s.Name)
		out = append(out, Change{text: text, send: []step{table.step(v.msg, v.flags, attrs...)}, of: s, list: chunk})
	}
	return out
}

// items are e as the kernel takes it: a range is a start and an end.
func (s *Set) items(e Element) []attr {
	key := data(unix.NFTA_SET_ELEM_KEY, []byte(e.Key))
	if e.Key == "" {
		key = u32(unix.NFTA_SET_ELEM_FLAGS, nftSetElemCatchall)
	}
	start := []attr{key}
	if s.Data != 0 {
		start = append(start, data(unix.NFTA_SET_ELEM_DATA, []byte(e.Data)))
	}
	items := []attr{nest(unix.NFTA_LIST_ELEM, start...)}
	if s.Interval && e.End != "" {
		items = append(items, nest(unix.NFTA_LIST_ELEM, data(unix.NFTA_SET_ELEM_KEY, []byte(e.End)),
			u32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)))
	}
	return items
}

// nftSetElemCatchall is NFT_SET_ELEM_CATCHALL, not in x/sys: the element for
// every key that has none.
const nftSetElemCatchall = 2

func addChain(table tableID, c *Chain) Change {
	text := fmt.Sprintf("add chain %s %s", table, c.Name)
	attrs := []attr{str(unix.NFTA_CHAIN_TABLE, table.name), str(unix.NFTA_CHAIN_NAME, c.Name)}
	if c.Hook != "" {
		text += " { " + c.base() + " }"
		hook := []attr{u32(unix.NFTA_HOOK_HOOKNUM, c.Hook.number(table.family)), u32(unix.NFTA_HOOK_PRIORITY, uint32(int32(c.Priority)))}
		if c.Device != "" {
			hook = append(hook, str(unix.NFTA_HOOK_DEV, c.Device))
		}
		attrs = append(attrs,
			nest(unix.NFTA_CHAIN_HOOK, hook...),
			u32(unix.NFTA_CHAIN_POLICY, nfAccept), str(unix.NFTA_CHAIN_TYPE, string(c.Type)))
	}
	return Change{text: text, send: []step{table.step(unix.NFT_MSG_NEWCHAIN, netlink.Create, attrs...)}, device: c.Device}
}

func deleteChain(table tableID, chain string) Change {
	return Change{text: fmt.Sprintf("delete chain %s %s", table, chain), send: []step{table.step(unix.NFT_MSG_DELCHAIN, 0,
		str(unix.NFTA_CHAIN_TABLE, table.name), str(unix.NFTA_CHAIN_NAME, chain))}}
}

func flushChain(table tableID, chain string) Change {
	return Change{text: fmt.Sprintf("flush chain %s %s", table, chain), send: []step{table.step(unix.NFT_MSG_DELRULE, 0,
		str(unix.NFTA_RULE_TABLE, table.name), str(unix.NFTA_RULE_CHAIN, chain))}}
}

func addRules(table tableID, c *Chain) []Change {
	var out []Change
	for _, r := range c.Rules {
		out = append(out, Change{text: fmt.Sprintf("add rule %s %s %s", table, c.Name, r), send: []step{
			table.step(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append,
				str(unix.NFTA_RULE_TABLE, table.name), str(unix.NFTA_RULE_CHAIN, c.Name),
				nest(unix.NFTA_RULE_EXPRESSIONS, r.expressions()...)),
		}})
	}
	return out
}

// Apply makes all changes in one transaction, or none.
func Apply(changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	var steps []step
	for _, c := range changes {
		steps = append(steps, c.send...)
	}
	if err := send(steps); err != nil {
		return fmt.Errorf("nft: %w, in the transaction that begins with %q%s", err, changes[0].String(), missing(err, changes))
	}
	return nil
}

// missing says which devices are not there that changes need. Of a chain for one, the
// kernel only says that there is no such thing; that of Linux 6.18 makes the chain, which waits for
// the device (nft_netdev_hook_alloc of net/netfilter/nf_tables_api.c).
func missing(err error, changes []Change) string {
	if !errors.Is(err, unix.ENOENT) {
		return ""
	}
	var text strings.Builder
	for _, c := range changes {
		if c.device == "" {
			continue
		}
		if _, err := net.InterfaceByName(c.device); err != nil {
			fmt.Fprintf(&text, "; there is no device %q", c.device)
		}
	}
	return text.String()
}

// send passes a batch to the kernel, which takes a transaction in a single
// message buffer or not at all, and waits for its end.
func send(steps []step) error {
	c, err := dial(0)
	if err != nil {
		return err
	}
	defer sign(c)()
	batch := []netlink.Message{edge(unix.NFNL_MSG_BATCH_BEGIN)}
	size := 0
	for i, s := range steps {
		flags := netlink.Request | s.flags
		if i == len(steps)-1 {
			flags |= netlink.Acknowledge
		}
		m := message(s.family, s.msg, flags, s.attrs)
		size += len(m.Data) + unix.NLMSG_HDRLEN
		batch = append(batch, m)
	}
	batch = append(batch, edge(unix.NFNL_MSG_BATCH_END))
	if err := c.SetWriteBuffer(2*size + 1<<16); err != nil {
		return fmt.Errorf("make room for %d bytes: %w", size, err)
	}
	if _, err := c.SendMessages(batch); err != nil {
		return fmt.Errorf("send %d steps: %w", len(steps), err)
	}
	_, err = c.Receive()
	return plain(err)
}

// plain is the kernel's own words where it has any, without netlink's frame.
func plain(err error) error {
	var op *netlink.OpError
	if !errors.As(err, &op) {
		return err
	}
	if op.Message != "" {
		return fmt.Errorf("%w: %s", op.Err, strings.TrimSpace(op.Message))
	}
	return op.Err
}

// edge begins or ends a batch.
func edge(typ uint16) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
	}
}
