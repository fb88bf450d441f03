// Package conntrack reads what the kernel counts of its connection table.
//
// The counters of interest are those that alone tell of source NAT in trouble:
// a forwarded SYN that finds no port, or loses a race for one, is dropped in
// silence, and only insert_failed and drop grow.
//
// Source: Linux net/netfilter/nf_conntrack_netlink.c, ctnetlink_ct_stat_cpu_*.
package conntrack

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
)

// Stats is the state of the calling thread's network namespace's table. The
// counters are sums over all CPUs since the namespace was made.
type Stats struct {
	Entries       int    `json:"entries"`
	Max           int    `json:"max"`
	InsertFailed  uint64 `json:"insertFailed"`  // entries whose translated tuple was already in use
	Drop          uint64 `json:"drop"`          // packets dropped because their entry could not be made
	EarlyDrop     uint64 `json:"earlyDrop"`     // entries evicted to make room in a full table
	ClashResolve  uint64 `json:"clashResolve"`  // clashes that turned out to be the same connection
	SearchRestart uint64 `json:"searchRestart"` // lookups that had to begin again
}

// From include/uapi/linux/netfilter/nfnetlink_conntrack.h: enum cntl_msg_types
// and enum ctattr_stats_cpu.
const (
	msgGetStatsCPU     = 4
	statsInsertFailed  = 9
	statsDrop          = 10
	statsEarlyDrop     = 11
	statsSearchRestart = 13
	statsClashResolve  = 14
)

// Read returns the table's state.
func Read() (Stats, error) {
	var s Stats
	var err error
	if s.Entries, err = number("net/netfilter/nf_conntrack_count"); err != nil {
		return s, err
	}
	if s.Max, err = number("net/netfilter/nf_conntrack_max"); err != nil {
		return s, err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return s, fmt.Errorf("open netlink: %w", err)
	}
	defer c.Close()
	replies, err := c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_CTNETLINK<<8 | msgGetStatsCPU),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return s, fmt.Errorf("read conntrack counters: %w", err)
	}
	for _, r := range replies {
		if err := s.add(r.Data); err != nil {
			return s, err
		}
	}
	return s, nil
}

// add sums one CPU's counters.
func (s *Stats) add(b []byte) error {
	if len(b) < 4 {
		return fmt.Errorf("conntrack counters: %d bytes are too few", len(b))
	}
	d, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return fmt.Errorf("conntrack counters: %w", err)
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		switch d.Type() {
		case statsInsertFailed:
			s.InsertFailed += uint64(d.Uint32())
		case statsDrop:
			s.Drop += uint64(d.Uint32())
		case statsEarlyDrop:
			s.EarlyDrop += uint64(d.Uint32())
		case statsSearchRestart:
			s.SearchRestart += uint64(d.Uint32())
		case statsClashResolve:
			s.ClashResolve += uint64(d.Uint32())
		}
	}
	return d.Err()
}

func number(key string) (int, error) {
	v, err := sysctl.Read(key)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf("%s is %q: conntrack is not there", key, v)
	}
	return n, nil
}
