package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnetlinkGroups are the announcements about links, addresses, routes and
// neighbours; nftablesGroups those about rules.
var (
	rtnetlinkGroups = []uint32{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEIGH,
	}
	nftablesGroups = []uint32{unix.NFNLGRP_NFTABLES}
)

// Watch calls changed whenever the kernel announces a change of interfaces,
// addresses, routes, neighbours or rules, until ctx is done.
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

func watch(ctx context.Context, protocol int, groups []uint32, changed func()) error {
	c, err := netlink.Dial(protocol, nil)
	if err != nil {
		return fmt.Errorf("watch kernel: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			return fmt.Errorf("watch kernel: join group %d: %w", g, err)
		}
	}
	changed() // whatever came before the watch stood
	for {
		messages, err := c.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !isOverrun(err) {
			return fmt.Errorf("watch kernel: %w", err)
		}
		// Announcements that were lost are announcements too.
		if err != nil || slices.ContainsFunc(messages, matters) {
			changed()
		}
	}
}

// transient are the states of neighbours that the kernel discovers by itself.
// Busy nodes announce many of them, and none is ours.
const transient = unix.NUD_INCOMPLETE | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE

// matters reports whether an announcement may be about something that is looked
// at. The state of a neighbour is in its struct ndmsg (rtnetlink(7)).
func matters(m netlink.Message) bool {
	if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < unix.SizeofNdMsg {
		return true
	}
	return binary.NativeEndian.Uint16(m.Data[8:])&transient == 0
}

// isOverrun reports whether announcements came faster than they were read.
func isOverrun(err error) bool { return errors.Is(err, unix.ENOBUFS) }
