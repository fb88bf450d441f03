// Package route describes routes, and rules that say in which table packets look for
// one, as plain values and makes the kernel hold them.
//
// Ours carry our routing protocol number, which is how they are told from
// everybody else's (rtnetlink(7), RTA_PROTOCOL). They may leave by anybody's
// link: with a link that is not ours, our routes through it go, and come back
// when they are asked for again. They are in the main table, where everybody looks,
// or in one of our own, to which a [Rule] leads.
package route

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// A Route leads to Dst: through Link, by way of Via if that is set, nowhere, or on to the
// next rule.
type Route struct {
	Dst    netip.Prefix
	Via    netip.Addr // the next hop
	Link   string     // ours or not; empty: packets are answered with "unreachable"
	OnLink bool       // Via is at the other end of Link, whatever Link's addresses say
	Table  uint32     // 0: the main one
	Throw  bool       // the table has no route for it: the next rule is asked

	found // zero in a route that is wanted
}

// found is what only a route that somebody else put among ours has.
type found struct {
	metric uint32
	tos    uint8
	odd    bool // another type, several next hops, or anything else that none of ours has
}

// Key is what the kernel tells two routes of ours apart by.
func (r Route) Key() Route {
	return Route{Dst: r.Dst, Table: r.Table, found: found{metric: r.metric, tos: r.tos}}
}

// words are those of ip-route(8) that say what r is.
func (r Route) words() string {
	s := r.Dst.String()
	if r.Dst.Bits() == 0 {
		s = "default"
	}
	switch {
	case r.odd && r.Link == "": // one to be deleted, whatever it is
	case r.Throw:
		s = "throw " + s
	case r.Link == "":
		s = "unreachable " + s
	case r.Via.IsValid():
		s += fmt.Sprintf(" via %s dev %s", r.Via, r.Link)
	default:
		s += " dev " + r.Link
	}
	if r.OnLink {
		s += " onlink"
	}
	if r.tos != 0 {
		s += fmt.Sprintf(" tos %#x", r.tos)
	}
	if r.metric != 0 {
		s += fmt.Sprintf(" metric %d", r.metric)
	}
	if r.Table != 0 {
		s += fmt.Sprintf(" table %d", r.Table)
	}
	return s
}

func dash6(p netip.Prefix) string {
	if p.Addr().Is6() {
		return " -6"
	}
	return ""
}

// An Add makes the kernel hold a route, in place of another to the same
// destination, but not of one to a network of the node's own: the kernel made that
// with an address, and nobody would make it again.
type Add struct {
	Route
	Protocol uint8
	Own      *Networks
}

// Networks are the node's own. They are asked for once, when they are needed.
type Networks struct{ known map[netip.Prefix]bool }

// String is the command of ip(8).
func (a Add) String() string {
	return fmt.Sprintf("ip%s route replace %s proto %d", dash6(a.Dst), a.words(), a.Protocol)
}

// Message is part of rtnl.Change.
func (a Add) Message(c *rtnl.Conn) (netlink.Message, error) {
	return a.message(c, netlink.Excl)
}

// Refused is part of rtnl.Change. It asks again where another route is in the way.
func (a Add) Refused(c *rtnl.Conn, err error) error {
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := a.Own.read(c); err != nil {
		return err
	}
	if a.Table == 0 && a.Own.known[a.Dst] {
		return errors.New("is a network of the node's own")
	}
	m, err := a.message(c, netlink.Replace)
	if err != nil {
		return err
	}
	return c.Send([]netlink.Message{m})[0]
}

// A Delete removes a route.
type Delete struct {
	Route
	Protocol uint8
}

// String is the command of ip(8).
func (d Delete) String() string {
	return fmt.Sprintf("ip%s route del %s proto %d", dash6(d.Dst), d.words(), d.Protocol)
}

// Refused is part of rtnl.Change. A route that is gone, maybe with its link, is as
// wanted.
func (d Delete) Refused(_ *rtnl.Conn, err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
