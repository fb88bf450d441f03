package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
)

// rtnetlinkGroups are the announcements about links, addresses, routes,
// neighbours, queues and forwarding; nftablesGroups those about rules.
var (
	rtnetlinkGroups = []uint32{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEIGH, unix.RTNLGRP_TC,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
	}
	nftablesGroups = []uint32{unix.NFNLGRP_NFTABLES}
)

// Watch calls changed whenever the kernel announces a change that may be of
// interfaces, addresses, routes, neighbours, queues, forwarding or our rules,
// until ctx is done. Settings other than forwarding and reverse path filtering
// announce nothing.
func Watch(ctx context.Context, changed func()) error {
	done := make(chan error, 2)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() { done <- watch(ctx, unix.NETLINK_ROUTE, rtnetlinkGroups, changed) }()
	go func() { done <- watch(ctx, unix.NETLINK_NETFILTER, nftablesGroups, changed) }()
	err := <-done
	stop()
	if second := <-done; err == nil {
		err = second
	}
	return err
}

// announcementsWaiting is room for what is announced while nobody reads, in bytes.
const announcementsWaiting = 1 << 20

func watch(ctx context.Context, protocol int, groups []uint32, changed func()) error {
	c, err := netlink.Dial(protocol, nil)
	if err != nil {
		return fmt.Errorf("watch kernel: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	// Best effort: with less room, more is lost, which is noticed.
	_ = c.SetReadBuffer(announcementsWaiting)
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return fmt.Errorf("watch kernel: join group %d: %w", g, err)
		}
	}
	changed() // whatever came before the watch stood
	matter := mattersOfLinks
	if protocol == unix.NETLINK_NETFILTER {
		matter = mattersOfRules
	}
	for {
		messages, err := c.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !isOverrun(err) {
			return fmt.Errorf("watch kernel: %w", err)
		}
		// Announcements that were lost are announcements too.
		if err != nil || slices.ContainsFunc(messages, matter) {
			changed()
		}
	}
}

// transient are the states of neighbours that the kernel discovers by itself.
// Busy nodes announce many of them, and none is ours.
const transient = unix.NUD_INCOMPLETE | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// mattersOfLinks reports whether an announcement of rtnetlink may be about
// something that is looked at. Neighbours that the kernel discovers are not, and
// of routes only those of the main table: the kernel itself makes others with
// every address. The state of a neighbour is in its struct ndmsg, the table of a
// route in its struct rtmsg (rtnetlink(7)).
func mattersOfLinks(m netlink.Message) bool {
	switch {
	case m.Header.Type == unix.RTM_NEWNEIGH && len(m.Data) >= unix.SizeofNdMsg:
		return binary.NativeEndian.Uint16(m.Data[8:])&transient == 0
	case (m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE) && len(m.Data) >= unix.SizeofRtMsg:
		return m.Data[4] != unix.RT_TABLE_LOCAL
	}
	return true
}

// mattersOfRules reports whether an announcement of nftables is about one of our
// tables, whose name is the first attribute of every kind of object
// (include/uapi/linux/netfilter/nf_tables.h). Others change theirs all the time.
func mattersOfRules(m netlink.Message) bool {
	const table = 1 // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, ...
	if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN || len(m.Data) < sizeofNfgenmsg {
		return false
	}
	d, err := netlink.NewAttributeDecoder(m.Data[sizeofNfgenmsg:])
	if err != nil {
		return true
	}
	for d.Next() {
		if d.Type() == table {
			return strings.HasPrefix(d.String(), datapath.TablePrefix)
		}
	}
	return true
}

const sizeofNfgenmsg = 4

// isOverrun reports whether announcements came faster than they were read.
func isOverrun(err error) bool { return errors.Is(err, unix.ENOBUFS) }
