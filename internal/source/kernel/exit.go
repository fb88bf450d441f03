package kernel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

// exits returns how packets of each family leave by default, and all interfaces by
// which default routes lead. A family without a default route has none.
func exits() (out []world.Exit, uplinks []world.Uplink, err error) {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := defaultRoutes(family)
		if err != nil {
			return nil, nil, err
		}
		known := map[int]bool{}
		for i, r := range routes {
			for n, hop := range hopsOf(r) {
				e, l, ok := exit(hop)
				if ok && i == 0 && n == 0 {
					out = append(out, e)
				}
				if ok && !known[hop.LinkIndex] {
					known[hop.LinkIndex] = true
					uplinks = append(uplinks, world.Uplink{Interface: e.Interface, Address: e.Address, Said: hop.Src != nil && masquerade(l, hop) != e.Address})
				}
			}
		}
	}
	return out, uplinks, nil
}

// defaultRoutes are those of the main table, the one in force first.
func defaultRoutes(family int) ([]netlink.Route, error) {
	filter := &netlink.Route{Table: unix.RT_TABLE_MAIN}
	routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("list default routes: %w", err)
	}
	routes = slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Type != unix.RTN_UNICAST })
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
	return routes, nil
}

// hopsOf are the routes to each of r's next hops.
func hopsOf(r netlink.Route) []netlink.Route {
	if len(r.MultiPath) == 0 {
		return []netlink.Route{r}
	}
	var out []netlink.Route
	for _, hop := range r.MultiPath {
		by := r
		by.LinkIndex, by.Gw = hop.LinkIndex, hop.Gw
		out = append(out, by)
	}
	return out
}

// masquerade is the source that masquerade gives packets by l; not valid where that
// cannot be told beforehand. It asks no route: in IPv4 it takes the first address of
// the next hop's network, or else the first (inet_select_addr of net/ipv4/devinet.c);
// in IPv6 the kernel chooses by the destination too (RFC 6724).
func masquerade(l netlink.Link, r netlink.Route) netip.Addr {
	addresses, err := netlink.AddrList(l, r.Family)
	if err != nil {
		return netip.Addr{}
	}
	addresses = slices.DeleteFunc(addresses, func(a netlink.Addr) bool {
		return a.Scope != unix.RT_SCOPE_UNIVERSE || r.Family == unix.AF_INET && a.Flags&unix.IFA_F_SECONDARY != 0
	})
	if len(addresses) == 0 || r.Family == unix.AF_INET6 && len(addresses) > 1 {
		return netip.Addr{}
	}
	first := addresses[0]
	for _, a := range addresses {
		if r.Gw != nil && a.Contains(r.Gw) {
			first = a
			break
		}
	}
	return prefixOf(first).Addr()
}

// exit is where r leads, with the source that the kernel picks towards its next
// hop. An interface that went meanwhile is no exit: its end is announced.
func exit(r netlink.Route) (world.Exit, netlink.Link, bool) {
	l, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return world.Exit{}, nil, false
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
	return world.Exit{Interface: l.Attrs().Name, Address: address.Unmap(), Gateway: gateway.Unmap(), MTU: leastMTU(r, l)}, l, ok
}

// leastMTU is the least of what r says and what its next hops' interfaces take, the
// first of which is l.
func leastMTU(r netlink.Route, l netlink.Link) int {
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
