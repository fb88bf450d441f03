// Package conntrack reads the kernel's connection table and what the kernel
// counts of it.
//
// Of the counters, insert_failed and drop alone tell of source NAT in trouble: a
// forwarded SYN that finds no port, or loses a race for one, is dropped in
// silence. The entries tell towards which destination: each holds one port of
// the address that its source was given.
//
// Source: Linux net/netfilter/nf_conntrack_netlink.c. The messages are read
// without a library since a table has hundreds of thousands of entries: nothing
// is allocated for one.
package conntrack

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Stats is the state of a network namespace's table. The counters are sums over
// all CPUs since the namespace was made.
type Stats struct {
	Entries       int    `json:"entries"`
	Max           int    `json:"max"`
	InsertFailed  uint64 `json:"insertFailed"`  // entries whose translated tuple was already in use
	Drop          uint64 `json:"drop"`          // packets dropped because their entry could not be made
	EarlyDrop     uint64 `json:"earlyDrop"`     // entries evicted to make room in a full table
	ClashResolve  uint64 `json:"clashResolve"`  // clashes that turned out to be the same connection
	SearchRestart uint64 `json:"searchRestart"` // lookups that had to begin again
}

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h: enum ctattr_stats_cpu
// and enum ctattr_stats_global.
const (
	statsInsertFailed  = 9
	statsDrop          = 10
	statsEarlyDrop     = 11
	statsSearchRestart = 13
	statsClashResolve  = 14

	statsEntries    = 1
	statsMaxEntries = 2
)

// Read returns the state of the table of the calling thread's network namespace.
func Read() (s Stats, err error) {
	t, err := Open()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return t.Stats()
}

// Stats returns the table's state.
func (t *Table) Stats() (s Stats, err error) {
	if s.Entries, s.Max, err = t.Count(); err != nil {
		return s, err
	}
	t.ask(msgGetStatsCPU, unix.NLM_F_DUMP, unix.AF_UNSPEC)
	if err := t.send(s.add); err != nil {
		return s, fmt.Errorf("read conntrack counters: %w", err)
	}
	return s, nil
}

// Count returns how many entries there are, and how many fit (0: any number). It
// is the cheapest look.
func (t *Table) Count() (entries, limit int, err error) {
	t.ask(msgGetStats, 0, unix.AF_UNSPEC)
	err = t.send(func(body []byte) error {
		if len(body) < netfilterHeader {
			return fmt.Errorf("%d bytes are too few", len(body))
		}
		for kind, value := range attributes(body[netfilterHeader:]) {
			switch kind {
			case statsEntries:
				entries = int(number32(value))
			case statsMaxEntries:
				limit = int(number32(value))
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count conntrack entries: %w", err)
	}
	return entries, limit, nil
}

// add sums one CPU's counters.
func (s *Stats) add(b []byte) error {
	if len(b) < netfilterHeader {
		return fmt.Errorf("%d bytes are too few", len(b))
	}
	for kind, value := range attributes(b[netfilterHeader:]) {
		n := uint64(number32(value))
		switch kind {
		case statsInsertFailed:
			s.InsertFailed += n
		case statsDrop:
			s.Drop += n
		case statsEarlyDrop:
			s.EarlyDrop += n
		case statsSearchRestart:
			s.SearchRestart += n
		case statsClashResolve:
			s.ClashResolve += n
		}
	}
	return nil
}
