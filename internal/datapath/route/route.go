// Package route describes routes of the main table as plain values and makes
// the kernel hold them.
//
// Ours carry our routing protocol number, which is how they are told from
// everybody else's (rtnetlink(7), RTA_PROTOCOL).
package route

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Route leads to Dst: through Link, by way of Via if that is set, or nowhere.
type Route struct {
	Dst    netip.Prefix
	Via    netip.Addr // the next hop
	Link   string     // ours or not; empty: packets are answered with "unreachable"
	OnLink bool       // Via is at the other end of Link, whatever Link's addresses say
}

// Key is what the kernel tells two routes of ours apart by.
func (r Route) Key() netip.Prefix { return r.Dst }

func (r Route) words() string {
	switch {
	case r.Link == "":
		return fmt.Sprintf("unreachable %s", r.Dst)
	case r.OnLink:
		return fmt.Sprintf("%s via %s dev %s onlink", r.Dst, r.Via, r.Link)
	case r.Via.IsValid():
		return fmt.Sprintf("%s via %s dev %s", r.Dst, r.Via, r.Link)
	default:
		return fmt.Sprintf("%s dev %s", r.Dst, r.Link)
	}
}

// AddText and DeleteText are the commands of ip(8) for r.
func (r Route) AddText(protocol int) string {
	return fmt.Sprintf("ip%s route replace %s proto %d", dash6(r.Dst), r.words(), protocol)
}

// DeleteText is the command of ip(8) that deletes r.
func (r Route) DeleteText(protocol int) string {
	return fmt.Sprintf("ip%s route del %s proto %d", dash6(r.Dst), r.words(), protocol)
}

func dash6(p netip.Prefix) string {
	if p.Addr().Is6() {
		return " -6"
	}
	return ""
}

// Read lists the routes of the given protocol in the main table.
func Read(protocol int) ([]Route, error) {
	filter := &netlink.Route{Protocol: netlink.RouteProtocol(protocol), Table: unix.RT_TABLE_MAIN}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var out []Route
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		found, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range found {
			out = append(out, from(r, family, names))
		}
	}
	return out, nil
}

func from(r netlink.Route, family int, names map[int]string) Route {
	out := Route{Dst: prefix(r.Dst, family)}
	if r.Type == unix.RTN_UNREACHABLE {
		return out
	}
	out.Link, out.OnLink = names[r.LinkIndex], r.Flags&int(netlink.FLAG_ONLINK) != 0
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		out.Via = via.Unmap()
	}
	return out
}

func prefix(n *net.IPNet, family int) netip.Prefix {
	if n == nil { // the default route
		if family == unix.AF_INET6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	a, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits)
}

// Add makes the kernel hold r, in place of another to the same destination, but
// not of one that the kernel made with an address: nobody would make it again.
func Add(r Route, protocol int) error {
	nr, err := r.netlink(protocol)
	if err == nil {
		err = netlink.RouteAdd(nr)
	}
	if errors.Is(err, unix.EEXIST) {
		err = replace(nr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.AddText(protocol), err)
	}
	return nil
}

// replace looks for IPv4 routes only: in IPv6 the kernel's have a metric of their
// own, which is better than ours.
func replace(r *netlink.Route) error {
	connected := &netlink.Route{Dst: r.Dst, Protocol: unix.RTPROT_KERNEL, Table: r.Table}
	found, err := netlink.RouteListFiltered(netlink.FAMILY_V4, connected,
		netlink.RT_FILTER_DST|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return errors.New("is a network of the node's own")
	}
	return netlink.RouteReplace(r)
}

// Delete removes r. One that is gone is no error.
func Delete(r Route, protocol int) error {
	nr, err := r.netlink(protocol)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // the route went with its link
	}
	if err == nil {
		err = netlink.RouteDel(nr)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%s: %w", r.DeleteText(protocol), err)
	}
	return nil
}

func (r Route) netlink(protocol int) (*netlink.Route, error) {
	nr := &netlink.Route{
		Dst:      &net.IPNet{IP: r.Dst.Addr().AsSlice(), Mask: net.CIDRMask(r.Dst.Bits(), r.Dst.Addr().BitLen())},
		Protocol: netlink.RouteProtocol(protocol), Table: unix.RT_TABLE_MAIN,
	}
	if r.Link == "" {
		nr.Type = unix.RTN_UNREACHABLE
		return nr, nil
	}
	link, err := netlink.LinkByName(r.Link)
	if err != nil {
		return nil, err
	}
	nr.LinkIndex = link.Attrs().Index
	if r.Via.IsValid() {
		nr.Gw = r.Via.AsSlice()
		if r.OnLink {
			nr.Flags = int(netlink.FLAG_ONLINK)
		}
		return nr, nil
	}
	nr.Scope = netlink.SCOPE_LINK
	return nr, nil
}
