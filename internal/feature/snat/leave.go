package snat

import (
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/world"
)

// A leaver forgets connections of pods that have an address outside which nobody
// answers to any more: the node lacks it, or they leave by another interface now, where
// pods get another. The kernel does that for masqueraded connections
// (nf_nat_masquerade.c), and for no others.
//
// The connection table may be long, so that it is looked through beside the turns, and
// only after addresses or ways changed.
type leaver struct {
	log *slog.Logger

	mu    sync.Mutex
	ways  string // of the world that was looked at last
	was   map[netip.Addr]bool
	given Given
	in    *world.World // in which to look; nil: nowhere
	works bool
}

func newLeaver(log *slog.Logger) *leaver {
	return &leaver{log: log, was: map[netip.Addr]bool{}}
}

// follow has connections follow the ways of w. The calling thread is in the node's
// namespace.
func (l *leaver) follow(w *world.World) {
	given := GivenAddresses(w)
	l.mu.Lock()
	defer l.mu.Unlock()
	ways := fmt.Sprint(given, w.Kernel.Uplinks, lacking(w, l.was))
	if ways == l.ways {
		return
	}
	l.ways, l.given, l.in = ways, given, w
	maps.Copy(l.was, given.Addresses)
	if l.works {
		return
	}
	table, err := conntrack.Open()
	if err != nil {
		l.failed(err)
		return
	}
	routes, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		_ = table.Close() // nothing was written
		l.failed(err)
		return
	}
	l.works = true
	go l.work(table, routes)
}

// lacking are the addresses that w's node has not.
func lacking(w *world.World, of map[netip.Addr]bool) []netip.Addr {
	out := slices.SortedFunc(maps.Keys(of), netip.Addr.Compare)
	return slices.DeleteFunc(out, w.HasAddress)
}

func (l *leaver) failed(err error) {
	l.ways = "" // the next turn tries again
	l.log.Warn("connections of pods may keep an address that they do not get any more", "error", err)
}

func (l *leaver) work(table *conntrack.Table, routes *netlink.Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.in != nil {
		w, given, was := l.in, l.given, maps.Clone(l.was)
		l.in = nil
		l.mu.Unlock()
		forgotten, err := table.Forget(conntrack.Filter{}, stale(w, given, was, &egress{routes: routes, known: map[netip.Addr]string{}}))
		l.mu.Lock()
		if err != nil {
			l.failed(err)
			break
		}
		maps.DeleteFunc(l.was, func(a netip.Addr, _ bool) bool { return err == nil && l.in == nil && !w.HasAddress(a) })
		if forgotten > 0 {
			l.log.Info("connections of pods were deleted from conntrack: outside they had an address that pods do not get there any more", "connections", forgotten)
		}
	}
	l.works = false
	_ = table.Close() // nothing was written
	routes.Close()
}

// stale tells connections of pods with an address of rules, now or before, that new ones
// would not get.
func stale(w *world.World, given Given, was map[netip.Addr]bool, by *egress) func(*conntrack.Entry) bool {
	return func(e *conntrack.Entry) bool {
		from, has := e.Original.Source.Addr(), e.Reply.Destination.Addr()
		if e.Status&conntrack.SourceNAT == 0 || from == has ||
			!slices.ContainsFunc(w.Node.PodCIDRs, func(c netip.Prefix) bool { return c.Contains(from) }) {
			return false
		}
		switch e.Protocol {
		case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP: // what can be forgotten
		default:
			return false
		}
		if !was[has] {
			return false // masqueraded, which is the kernel's affair, or somebody else's
		}
		if !w.HasAddress(has) {
			return true
		}
		link := by.to(e.Reply.Source.Addr())
		if link == "" {
			return false // by no interface for now
		}
		if on, _ := w.Kernel.Holding(has); on.Name == link {
			return false // it is answered there, whatever new ones get
		}
		gets, written := given.At(has, link)
		return written && gets != has || !written && numbered(w, link, has)
	}
}

// numbered reports whether an interface has addresses of the family of like: one that
// has none is masqueraded with the loopback's.
func numbered(w *world.World, link string, like netip.Addr) bool {
	return slices.ContainsFunc(w.Kernel.Interfaces, func(i world.Interface) bool {
		return i.Name == link && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool {
			return p.Addr().Is4() == like.Is4() && !p.Addr().IsLinkLocalUnicast()
		})
	})
}

// An egress knows by which interfaces packets leave.
type egress struct {
	routes *netlink.Handle
	known  map[netip.Addr]string
}

// to is "" where that is not known.
func (e *egress) to(a netip.Addr) string {
	link, known := e.known[a]
	if known {
		return link
	}
	if found, err := e.routes.RouteGet(a.AsSlice()); err == nil && len(found) == 1 && found[0].Type == unix.RTN_UNICAST {
		if l, err := e.routes.LinkByIndex(found[0].LinkIndex); err == nil {
			link = l.Attrs().Name
		}
	}
	e.known[a] = link
	return link
}
