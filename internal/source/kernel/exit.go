package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

// exits returns how packets of each family leave by default. A family without a
// default route has none.
func exits() ([]world.Exit, error) {
	var out []world.Exit
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		r, err := defaultRoute(family)
		if err != nil {
			return nil, err
		}
		if e, ok := exit(r); ok {
			out = append(out, e)
		}
	}
	return out, nil
}

// defaultRoute is the one in force: that of the lowest metric, the first of its
// next hops. Nil where there is none.
func defaultRoute(family int) (*netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("list default routes: %w", err)
	}
	var best *netlink.Route
	for i, r := range routes {
		if r.Type == unix.RTN_UNICAST && (best == nil || r.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	if best != nil && len(best.MultiPath) > 0 {
		best.LinkIndex, best.Gw = best.MultiPath[0].LinkIndex, best.MultiPath[0].Gw
	}
	return best, nil
}

// exit is where r leads, with the source that the kernel picks towards its next
// hop. An interface that went meanwhile is no exit: its end is announced.
func exit(r *netlink.Route) (world.Exit, bool) {
	if r == nil {
		return world.Exit{}, false
	}
	l, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return world.Exit{}, false
	}
	source := r.Src
	if source == nil && r.Gw != nil {
		if to, err := netlink.RouteGetWithOptions(r.Gw, &netlink.RouteGetOptions{Oif: l.Attrs().Name}); err == nil && len(to) > 0 {
			source = to[0].Src
		}
	}
	address, ok := netip.AddrFromSlice(source)
	if !ok || address.IsLinkLocalUnicast() {
		address, ok = globalAddress(l, r.Family)
	}
	gateway, _ := netip.AddrFromSlice(r.Gw)
	return world.Exit{Interface: l.Attrs().Name, Address: address.Unmap(), Gateway: gateway.Unmap(), MTU: leastMTU(r, l)}, ok
}

// leastMTU is the least of what r says and what its next hops' interfaces take, the
// first of which is l.
func leastMTU(r *netlink.Route, l netlink.Link) int {
	least := l.Attrs().MTU
	if r.MTU != 0 {
		least = min(least, r.MTU)
	}
	for _, hop := range r.MultiPath {
		if l, err := netlink.LinkByIndex(hop.LinkIndex); err == nil {
			least = min(least, l.Attrs().MTU)
		}
	}
	return least
}

// globalAddress is the first address of l that others can answer.
func globalAddress(l netlink.Link, family int) (netip.Addr, bool) {
	addresses, err := netlink.AddrList(l, family)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addresses {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ok && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&(unix.IFA_F_SECONDARY|unix.IFA_F_DEPRECATED|unix.IFA_F_TENTATIVE) == 0 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
