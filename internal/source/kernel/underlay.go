package kernel

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/world"
)

// An underlay is what was seen of the ways to peers.
type underlay struct {
	stale atomic.Bool // a route or an interface changed since

	mu   sync.Mutex
	of   any               // the parts of the world that legs are made of
	ways map[world.Leg]int // the MTU of each that was asked for; 0: never seen
	at   time.Time
	last *world.Underlay
}

// Underlay returns how packets to w's peers leave. The routing table is asked for each
// of them, with the source that they have, so that rules count (ip-rule(8)); after
// that only for new ones until something is announced. A way that is not there now,
// because a routing daemon lost its neighbours, stays as it was seen last.
func (o *Observer) Underlay(w *world.World) (*world.Underlay, error) {
	u := &o.underlay
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.Config.Overlay.Mode == world.None {
		return nil, nil
	}
	of := struct {
		node   *world.Node
		peers  *world.Peers
		config *world.Config
		ends   string
	}{w.Node, w.Peers, w.Config, fmt.Sprint(w.Ends())}
	known := u.ways
	if stale := u.stale.Swap(false); stale || o.watches.Load() != int32(len(watched)) || time.Since(u.at) >= listAnyway {
		known, u.at = nil, time.Now()
	} else if u.of == of && u.last != nil {
		return u.last, nil
	}
	u.of = of
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		u.stale.Store(true)
		return u.last, fmt.Errorf("ask for routes: %w", err)
	}
	defer h.Close()
	asker := asker{handle: h, mtus: map[device]int{}}
	ways, unseen, out := map[world.Leg]int{}, false, &world.Underlay{}
	for _, leg := range w.Legs() {
		mtu, asked := known[leg]
		if !asked {
			mtu = asker.ask(leg)
		}
		if mtu == 0 {
			mtu = u.ways[leg]
		}
		ways[leg] = mtu
		least := &out.MTU4
		if leg.To.Is6() {
			least = &out.MTU6
		}
		switch {
		case mtu == 0:
			unseen = true
		case *least == 0 || mtu < *least:
			*least = mtu
		}
	}
	if unseen {
		if l, err := h.LinkByName(datapath.VXLANLink); err == nil {
			out.Held = l.Attrs().MTU
		}
	}
	u.ways = ways
	if u.last == nil || *u.last != *out {
		u.last = out
	}
	return u.last, nil
}

// An asker asks for ways, and for each device once.
type asker struct {
	handle *netlink.Handle
	mtus   map[device]int
}

type device struct {
	index int
	ipv6  bool
}

// ask returns what the way takes: the least of its next hops' devices and of the route's
// own MTU; 0 where there is none, or none that leaves the node. What the kernel learned
// of the path beyond is left out: anybody may send it such a message.
func (a asker) ask(leg world.Leg) int {
	options := &netlink.RouteGetOptions{FIBMatch: true, SrcAddr: leg.From.AsSlice()}
	routes, err := a.handle.RouteGetWithOptions(leg.To.AsSlice(), options)
	if err != nil { // the node may not have its address yet
		routes, err = a.handle.RouteGetWithOptions(leg.To.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	}
	if err != nil {
		return 0
	}
	least := 0
	for _, r := range routes {
		if r.Type != unix.RTN_UNICAST {
			return 0
		}
		for _, mtu := range append(a.hops(r, leg.To), r.MTU) {
			if mtu != 0 && (least == 0 || mtu < least) {
				least = mtu
			}
		}
	}
	return least
}

// hops are the MTUs of the devices by which r leads.
func (a asker) hops(r netlink.Route, to netip.Addr) (out []int) {
	indexes := []int{r.LinkIndex}
	for _, hop := range r.MultiPath {
		indexes = append(indexes, hop.LinkIndex)
	}
	for _, index := range indexes {
		if index != 0 {
			out = append(out, a.device(device{index, to.Is6()}))
		}
	}
	return out
}

// device is what a device takes of packets of one family; 0 where it is ours, or the
// loopback, or went meanwhile.
func (a asker) device(d device) int {
	if mtu, known := a.mtus[d]; known {
		return mtu
	}
	a.mtus[d] = 0
	l, err := a.handle.LinkByIndex(d.index)
	if err != nil || strings.HasPrefix(l.Attrs().Name, datapath.LinkPrefix) || l.Attrs().Name == "lo" {
		return 0
	}
	mtu := l.Attrs().MTU
	if d.ipv6 { // a router may have advertised less (RFC 4861 section 4.6.4)
		text, err := sysctl.Read("net/ipv6/conf/" + l.Attrs().Name + "/mtu")
		if own, bad := strconv.Atoi(text); err == nil && bad == nil && own > 0 {
			mtu = min(mtu, own)
		}
	}
	a.mtus[d] = mtu
	return mtu
}
