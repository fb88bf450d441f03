package kernel

import (
	"context"
	"errors"
	"fmt"

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
		_, err := c.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !isOverrun(err) {
			return fmt.Errorf("watch kernel: %w", err)
		}
		changed() // announcements that were lost are announcements too
	}
}

// isOverrun reports whether announcements came faster than they were read.
func isOverrun(err error) bool { return errors.Is(err, unix.ENOBUFS) }
