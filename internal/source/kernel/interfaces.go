package kernel

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/world"
)

// list lists everybody's network devices but ours, and the ways out.
func list() (listed, error) {
	out := listed{others: map[int32]bool{}}
	links, err := netlink.LinkList()
	if err != nil {
		return out, fmt.Errorf("list interfaces: %w", err)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return out, fmt.Errorf("list addresses: %w", err)
	}
	on := map[int][]netlink.Addr{}
	for _, a := range addresses {
		on[a.LinkIndex] = append(on[a.LinkIndex], a)
	}
	advertised, err := advertisedRoutes()
	if err != nil {
		return out, err
	}
	kinds := map[int]string{}
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	for _, l := range links {
		a := l.Attrs()
		if strings.HasPrefix(a.Name, datapath.LinkPrefix) {
			continue
		}
		master := kinds[a.MasterIndex]
		i := world.Interface{Name: a.Name, MTU: a.MTU, Down: a.Flags&net.FlagUp == 0, Port: master != "" && master != "vrf", Hardware: isHardware(l),
			Advertised: advertised[a.Index] || slices.ContainsFunc(on[a.Index], isAdvertised)}
		i.Addresses, i.Fleeting = addressesOf(on[a.Index])
		out.others[int32(a.Index)] = true
		out.interfaces = append(out.interfaces, i)
	}
	slices.SortFunc(out.interfaces, func(a, b world.Interface) int { return strings.Compare(a.Name, b.Name) })
	if out.exits, out.uplinks, err = exits(); err != nil {
		return out, err
	}
	out.rules, err = sourceRules(out.interfaces)
	return out, err
}

// addressesOf are the addresses of one interface, sorted, and those of them that
// may go, the more lasting first.
func addressesOf(found []netlink.Addr) (all []netip.Prefix, fleeting []netip.Addr) {
	slices.SortFunc(found, func(a, b netlink.Addr) int {
		return cmp.Or(cmp.Compare(fleetingness(a), fleetingness(b)), prefixOf(a).Compare(prefixOf(b)))
	})
	for _, a := range found {
		all = append(all, prefixOf(a))
		if fleetingness(a) > 0 {
			fleeting = append(fleeting, prefixOf(a).Addr())
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return all, fleeting
}

func prefixOf(a netlink.Addr) netip.Prefix {
	ip, _ := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits)
}

// fleetingness is 0 for an address that stays, and the greater the sooner one
// may go. In IPv4 the flag for temporary means secondary, which is as good as
// any (include/uapi/linux/if_addr.h).
func fleetingness(a netlink.Addr) int {
	switch {
	case a.Flags&unix.IFA_F_DADFAILED != 0:
		return 4
	case a.Flags&unix.IFA_F_DEPRECATED != 0:
		return 3
	case a.Flags&unix.IFA_F_TEMPORARY != 0 && a.IP.To4() == nil:
		return 2
	case a.Flags&unix.IFA_F_PERMANENT == 0:
		return 1
	}
	return 0
}

// advertisedRoutes are the interfaces with routes from router advertisements.
func advertisedRoutes() (map[int]bool, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Protocol: unix.RTPROT_RA}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list advertised routes: %w", err)
	}
	out := map[int]bool{}
	for _, r := range routes {
		out[r.LinkIndex] = true
	}
	return out, nil
}

// isHardware reports whether l is the machine's own device, which has no kind, or of
// a kind that is made of such and leads to their networks.
func isHardware(l netlink.Link) bool {
	if l.Attrs().Flags&net.FlagLoopback != 0 {
		return false
	}
	return slices.Contains([]string{"", "device", "bond", "team", "vlan", "macvlan"}, l.Type())
}

// isAdvertised reports whether a came by router advertisement, for all that can be
// seen: those of DHCPv6 have a lifetime too, but the router that leads to them is
// advertised.
func isAdvertised(a netlink.Addr) bool {
	return a.IP.To4() == nil && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Flags&unix.IFA_F_PERMANENT == 0
}

// acceptRA is accept_ra, which announces no change, of interfaces where it may matter:
// on a node with other networks most are wires of theirs.
func acceptRA(interfaces []world.Interface) (map[string]string, error) {
	out := map[string]string{}
	for _, i := range interfaces {
		if !i.Hardware && !i.Advertised && !slices.ContainsFunc(i.Addresses, isGlobal) {
			continue
		}
		v, err := sysctl.Read(datapath.AcceptRA(i.Name))
		if err != nil {
			return nil, err
		}
		out[i.Name] = v
	}
	return out, nil
}

func isGlobal(p netip.Prefix) bool { return p.Addr().IsGlobalUnicast() }
