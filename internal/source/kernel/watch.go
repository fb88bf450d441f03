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
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
)

// watched are the announcements that are heard, by socket.
var watched = []struct {
	protocol int
	groups   []uint32
}{
	{unix.NETLINK_ROUTE, []uint32{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEIGH, unix.RTNLGRP_TC,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
	}},
	{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}},
}

// Watch calls changed whenever the kernel announces a change that may be of
// interfaces, addresses, routes and rules that lead to them, neighbours, queues, forwarding or our rules,
// until ctx is done. Settings other than forwarding and reverse path filtering
// announce nothing.
func (o *Observer) Watch(ctx context.Context, changed func()) error {
	done := make(chan error, len(watched))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for i := range watched {
		go func() { done <- o.watch(ctx, i, changed) }()
	}
	err := <-done
	stop()
	for range watched[1:] {
		if next := <-done; err == nil {
			err = next
		}
	}
	return err
}

// announcementsWaiting is room for what is announced while nobody reads, in bytes.
const announcementsWaiting = 1 << 20

// watch hears the announcements of watched[i].
func (o *Observer) watch(ctx context.Context, i int, changed func()) error {
	protocol := watched[i].protocol
	c, err := netlink.Dial(protocol, nil)
	if err != nil {
		return fmt.Errorf("watch kernel: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	// Best effort: with less room, more is lost, which is noticed.
	_ = c.SetReadBuffer(announcementsWaiting)
	for _, g := range watched[i].groups {
		if err := c.JoinGroup(g); err != nil {
			return fmt.Errorf("watch kernel: join group %d: %w", g, err)
		}
	}
	o.watches.Add(1)
	defer o.watches.Add(-1)
	o.stale.Store(true)
	o.filters.stale.Store(true)
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
		if protocol == unix.NETLINK_ROUTE && (err != nil || slices.ContainsFunc(messages, o.lists)) {
			o.stale.Store(true)
		}
		if protocol == unix.NETLINK_ROUTE && (err != nil || slices.ContainsFunc(messages, func(m netlink.Message) bool { return o.lists(m) || leads(m) })) {
			o.underlay.stale.Store(true)
		}
		if protocol == unix.NETLINK_NETFILTER && (err != nil || slices.ContainsFunc(messages, o.filters.concern)) {
			o.filters.stale.Store(true)
		}
		matter := o.mattersOfLinks
		if protocol == unix.NETLINK_NETFILTER {
			matter = o.mattersOfRules
		}
		if err != nil || slices.ContainsFunc(messages, matter) {
			changed()
		}
	}
}

// lists reports whether an announcement may be about what an Observer lists:
// others' interfaces, their addresses and settings, default and advertised
// routes. The fields are those of struct ifinfomsg, ifaddrmsg and rtmsg.
func (o *Observer) lists(m netlink.Message) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return len(m.Data) < unix.SizeofIfInfomsg || !strings.HasPrefix(name(m.Data[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME), datapath.LinkPrefix) ||
			o.isOthers(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return len(m.Data) < unix.SizeofIfAddrmsg || o.isOthers(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return len(m.Data) < unix.SizeofRtMsg || m.Data[1] == 0 || m.Data[5] == unix.RTPROT_RA
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		_, by := route.ParseRule(m.Data)
		return by != datapath.RouteProtocol
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH, unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER,
		unix.RTM_NEWCHAIN, unix.RTM_DELCHAIN, unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF: // every link comes with the last
		return false
	}
	return true
}

// leads reports whether an announcement is of a route by which packets may leave: not
// of one of ours, nor of what the kernel makes with every address.
func leads(m netlink.Message) bool {
	return (m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE) && len(m.Data) >= unix.SizeofRtMsg &&
		m.Data[4] != unix.RT_TABLE_LOCAL && m.Data[5] != datapath.RouteProtocol
}

// name is the attribute of the given type, as a string; "" where there is none.
func name(attributes []byte, typ uint16) string {
	d, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return ""
	}
	for d.Next() {
		if d.Type() == typ {
			return d.String()
		}
	}
	return ""
}

// transient are the states of neighbours that the kernel discovers by itself.
// Busy nodes announce many of them, as do those whose peers are away. On a link of
// ours one may have been permanent.
const transient = unix.NUD_INCOMPLETE | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_FAILED

// mattersOfLinks reports whether an announcement of rtnetlink may be about
// something that is looked at. Neighbours that the kernel discovers on others'
// interfaces are not, and of routes only those of the main table: the kernel itself
// makes others with every address. The interface and state of a neighbour are in its
// struct ndmsg, the table of a route in its struct rtmsg (rtnetlink(7)).
func (o *Observer) mattersOfLinks(m netlink.Message) bool {
	switch {
	case (m.Header.Type == unix.RTM_NEWNEIGH || m.Header.Type == unix.RTM_DELNEIGH) && len(m.Data) >= unix.SizeofNdMsg:
		return binary.NativeEndian.Uint16(m.Data[8:])&transient == 0 || !o.isOthers(int32(binary.NativeEndian.Uint32(m.Data[4:])))
	case (m.Header.Type == unix.RTM_NEWROUTE || m.Header.Type == unix.RTM_DELROUTE) && len(m.Data) >= unix.SizeofRtMsg:
		return m.Data[4] != unix.RT_TABLE_LOCAL
	}
	return true
}

// mattersOfRules reports whether an announcement of nftables is about one of our
// tables, whose name is the first attribute of every kind of object
// (include/uapi/linux/netfilter/nf_tables.h), or a chain in which we have rules, and
// somebody else's doing; or about what decides on pods' packets. Others change
// theirs all the time.
func (o *Observer) mattersOfRules(m netlink.Message) bool {
	if !ofRules(m) {
		return false
	}
	about := chainOf(m)
	return o.filters.concern(m) || !nft.Announced(m) && (strings.HasPrefix(about.Table, datapath.TablePrefix) || isOpen(about))
}

const sizeofNfgenmsg = 4

// isOverrun reports whether announcements came faster than they were read.
func isOverrun(err error) bool { return errors.Is(err, unix.ENOBUFS) }
