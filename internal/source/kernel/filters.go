package kernel

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/firewall"
	"fairlead.dev/fairlead/internal/world"
)

// filters is what was seen last of others' packet filters. Those of nftables
// announce their changes; those of iptables-legacy do not.
type filters struct {
	stale atomic.Bool // something that was looked into changed since

	mu      sync.Mutex
	exits   []world.Exit // the ways out that it was seen for
	nft     filterLook
	legacy  filterLook
	watched map[firewall.Chain]bool
	tables  map[firewall.Chain]bool // of the watched, without the names of chains
}

// A filterLook is what one look came to.
type filterLook struct {
	drops []world.ForwardDrop
	at    time.Time
	took  time.Duration
}

// filterShare bounds the time spent reading others' filters: one part in so many.
const filterShare = 50

// again reports whether enough time went by for another look.
func (l *filterLook) again(atLeast time.Duration) bool {
	return l.at.IsZero() || time.Since(l.at) >= max(atLeast, filterShare*l.took)
}

// look keeps what see returns. Where nothing can be seen, what was seen counts.
func (l *filterLook) look(see func() ([]world.ForwardDrop, error)) error {
	began := time.Now()
	drops, err := see()
	l.at, l.took = time.Now(), time.Since(began)
	if err == nil {
		l.drops = drops
	}
	return err
}

// How often others' filters are read: those that announce nothing, and those that do
// without an announcement.
const (
	legacyEvery   = 4 * time.Second
	filtersAnyway = time.Minute
)

// drops is what others' packet filters drop of what pods send and receive. What the
// kernel does not tell is no finding, and no reason to leave anything else undone.
func (o *Observer) drops(exits []world.Exit) []world.ForwardDrop {
	f := &o.filters
	f.mu.Lock()
	defer f.mu.Unlock()
	moved := !slices.Equal(exits, f.exits)
	f.exits = exits
	watching := o.watches.Load() == int32(len(watched))
	stale := moved || !watching || f.stale.Load() || time.Since(f.nft.at) > filtersAnyway
	if stale && f.nft.again(0) {
		f.stale.Store(false)
		if f.nft.look(func() ([]world.ForwardDrop, error) { return f.see(exits) }) != nil {
			f.stale.Store(true)
		}
	}
	if moved || f.legacy.again(legacyEvery) {
		_ = f.legacy.look(func() ([]world.ForwardDrop, error) { return firewall.Legacy(exits) })
	}
	if len(f.nft.drops)+len(f.legacy.drops) == 0 {
		return nil
	}
	return append(append([]world.ForwardDrop{}, f.nft.drops...), f.legacy.drops...)
}

func (f *filters) see(exits []world.Exit) ([]world.ForwardDrop, error) {
	seen, err := firewall.NFTables(exits)
	if err != nil {
		return nil, err
	}
	f.watched, f.tables = seen.Watched, map[firewall.Chain]bool{}
	for c := range seen.Watched {
		f.tables[firewall.Chain{Family: c.Family, Table: c.Table}] = true
	}
	return seen.Drops, nil
}

// concern reports whether an announcement is of what decides on pods' packets.
func (f *filters) concern(m netlink.Message) bool {
	if !ofRules(m) {
		return false
	}
	about := chainOf(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch messageOf(m) {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE: // a table may fall asleep
		return f.tables[about]
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		return f.watched[about] || hooksForward(m)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return f.watched[about]
	}
	return false
}

// ofRules reports whether an announcement is of an object of nftables.
func ofRules(m netlink.Message) bool {
	return m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN && len(m.Data) >= sizeofNfgenmsg
}

func messageOf(m netlink.Message) uint16 { return uint16(m.Header.Type) & 0xff }

// somethingElse stands where the name of a chain would: an announcement is of a set.
const somethingElse = "/"

// chainOf is the table that an announcement is about, and the chain where it is about
// one or a rule in it.
func chainOf(m netlink.Message) firewall.Chain {
	const table = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, ...
	a := m.Data[sizeofNfgenmsg:]
	out := firewall.Chain{Family: m.Data[0], Table: name(a, table), Name: somethingElse}
	switch messageOf(m) {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE:
		out.Name = ""
	case unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		out.Name = name(a, unix.NFTA_CHAIN_NAME)
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		out.Name = name(a, unix.NFTA_RULE_CHAIN)
	}
	return out
}

// hooksForward reports whether an announcement is of a base chain of the forward
// hook.
func hooksForward(m netlink.Message) bool {
	const forward = 2 // NF_INET_FORWARD
	d, err := netlink.NewAttributeDecoder(m.Data[sizeofNfgenmsg:])
	if err != nil {
		return false
	}
	is := false
	for d.Next() {
		if d.Type() == unix.NFTA_CHAIN_HOOK {
			d.Nested(func(hook *netlink.AttributeDecoder) error {
				hook.ByteOrder = binary.BigEndian
				for hook.Next() {
					is = is || hook.Type() == unix.NFTA_HOOK_HOOKNUM && hook.Uint32() == forward
				}
				return nil
			})
		}
	}
	return is
}

// isOpen reports whether a chain is one in which we may have rules.
func isOpen(c firewall.Chain) bool {
	for _, p := range datapath.AcceptPlaces {
		if c.Family == p.Family.Number() && c.Table == p.Table && (c.Name == p.Chain || c.Name == "") {
			return true
		}
	}
	return false
}
