package route

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// defaultMetric6 is the kernel's choice for IPv6, IP6_RT_PRIO_USER of Linux
// include/uapi/linux/ipv6_route.h; for IPv4 it is 0.
const defaultMetric6 = 1024

// rtaNexthopID is RTA_NH_ID of Linux include/uapi/linux/rtnetlink.h.
const rtaNexthopID = 30

// newMessage is a request about what tells r from others; see Key.
func (r Route) newMessage() (unix.RtMsg, []netlink.Attribute) {
	h := unix.RtMsg{Family: unix.AF_INET, Dst_len: uint8(r.Dst.Bits()), Tos: r.tos}
	metric := r.metric
	if r.Dst.Addr().Is6() {
		h.Family = unix.AF_INET6
		if metric == 0 {
			metric = defaultMetric6
		}
	}
	return h, []netlink.Attribute{
		{Type: unix.RTA_DST, Data: r.Dst.Addr().AsSlice()},
		{Type: unix.RTA_PRIORITY, Data: rtnl.Bytes(metric)},
		{Type: unix.RTA_TABLE, Data: rtnl.Bytes(tableOf(r.Table))},
	}
}

// tableOf is the kernel's number of a table.
func tableOf(t uint32) uint32 { return cmp.Or(t, unix.RT_TABLE_MAIN) }

func (a Add) message(c *rtnl.Conn, how netlink.HeaderFlags) (netlink.Message, error) {
	h, attrs := a.newMessage()
	h.Protocol, h.Type = a.Protocol, unix.RTN_UNICAST
	switch {
	case a.Throw:
		h.Type = unix.RTN_THROW
	case a.Link == "":
		h.Type = unix.RTN_UNREACHABLE
	case a.Via.IsValid():
		attrs = append(attrs, netlink.Attribute{Type: unix.RTA_GATEWAY, Data: a.Via.AsSlice()})
	default:
		h.Scope = unix.RT_SCOPE_LINK
	}
	if a.OnLink {
		h.Flags = unix.RTNH_F_ONLINK
	}
	if a.Link != "" {
		index, err := c.Index(a.Link)
		if err != nil {
			return netlink.Message{}, err
		}
		attrs = append(attrs, netlink.Attribute{Type: unix.RTA_OIF, Data: rtnl.Bytes(uint32(index))})
	}
	return rtnl.NewMessage(unix.RTM_NEWROUTE, netlink.Create|how, h, attrs...)
}

// Message is part of rtnl.Change.
func (d Delete) Message(*rtnl.Conn) (netlink.Message, error) {
	h, attrs := d.newMessage()
	h.Protocol, h.Scope = d.Protocol, unix.RT_SCOPE_NOWHERE // which is any
	return rtnl.NewMessage(unix.RTM_DELROUTE, 0, h, attrs...)
}

// Read lists the routes of the given protocol in the main table, and in ours.
func Read(c *rtnl.Conn, protocol uint8, ours ...uint32) ([]Route, error) {
	var out []Route
	for _, table := range append([]uint32{0}, ours...) {
		for _, family := range families {
			request, err := rtnl.NewMessage(unix.RTM_GETROUTE, 0, unix.RtMsg{Family: family, Protocol: protocol},
				netlink.Attribute{Type: unix.RTA_TABLE, Data: rtnl.Bytes(tableOf(table))})
			if err != nil {
				return nil, err
			}
			err = c.List(request, func(answer []byte) {
				h, attrs := rtnl.Parse[unix.RtMsg](answer)
				r := from(c, h, attrs)
				if h.Family == family && h.Protocol == protocol && r.Table == table && h.Flags&unix.RTM_F_CLONED == 0 {
					out = append(out, r)
				}
			})
			if err != nil && !errors.Is(err, unix.ENOENT) { // no route was ever in the table
				return nil, fmt.Errorf("list routes: %w", err)
			}
		}
	}
	return out, nil
}

var families = []uint8{unix.AF_INET, unix.AF_INET6}

func from(c *rtnl.Conn, h unix.RtMsg, attrs iter.Seq2[uint16, []byte]) Route {
	dst := netip.IPv4Unspecified() // a default route has no attribute for it
	if h.Family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	r := Route{OnLink: h.Flags&unix.RTNH_F_ONLINK != 0, Table: uint32(h.Table)}
	r.tos = h.Tos
	for typ, value := range attrs {
		switch typ {
		case unix.RTA_DST:
			dst = rtnl.Addr(value)
		case unix.RTA_GATEWAY:
			r.Via = rtnl.Addr(value)
		case unix.RTA_TABLE:
			r.Table, _ = rtnl.Value[uint32](value)
		case unix.RTA_OIF:
			index, _ := rtnl.Value[uint32](value)
			r.Link = c.Name(int(index))
		case unix.RTA_PRIORITY:
			r.metric, _ = rtnl.Value[uint32](value)
		case unix.RTA_METRICS, unix.RTA_MULTIPATH, unix.RTA_PREFSRC, unix.RTA_SRC, unix.RTA_FLOW, unix.RTA_ENCAP_TYPE, unix.RTA_VIA, rtaNexthopID:
			r.odd = true
		}
	}
	if r.Table == unix.RT_TABLE_MAIN {
		r.Table = 0
	}
	r.Dst = netip.PrefixFrom(dst, int(h.Dst_len))
	if dst.Is6() && r.metric == defaultMetric6 {
		r.metric = 0
	}
	if h.Type != unix.RTN_UNICAST {
		r.Throw = h.Type == unix.RTN_THROW
		r.Link, r.odd = "", r.odd || !r.Throw && h.Type != unix.RTN_UNREACHABLE
	}
	return r
}

// read asks for the IPv4 networks only: in IPv6 the kernel's routes have a metric
// of their own, which is better than ours.
func (n *Networks) read(c *rtnl.Conn) error {
	if n.known != nil {
		return nil
	}
	routes, err := Read(c, unix.RTPROT_KERNEL)
	if err != nil {
		return err
	}
	n.known = map[netip.Prefix]bool{}
	for _, r := range routes {
		n.known[r.Dst] = r.Dst.Addr().Is4()
	}
	return nil
}
