package wire

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab/plan"
)

// podTable is the router's table of the nodes' pod CIDRs. It is asked only for
// packets that come from hosts: a pod that keeps its address towards them gets
// its replies, and a broken overlay is not mended by the router.
const podTable = 100

// podsFrom lets packets that come in by the link find pods.
func podsFrom(link string) error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		rule := netlink.NewRule()
		rule.Family, rule.IifName, rule.Table, rule.Priority = family, link, podTable, podTable
		if err := netlink.RuleAdd(rule); err != nil {
			return fmt.Errorf("rule for %s: %w", link, err)
		}
	}
	return nil
}

// routePods leads to the node's pods, where the node has an address of their
// family.
func routePods(n plan.Node) error {
	for _, p := range n.PodCIDRs {
		if via, ok := plan.Address(n.Addresses, p.Addr()); ok {
			if err := addRoute(p, via, podTable); err != nil {
				return err
			}
		}
	}
	return nil
}

func addRoute(to netip.Prefix, via netip.Addr, table int) error {
	err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: via.AsSlice(), Table: table})
	if err != nil {
		return fmt.Errorf("route %s via %s: %w", to, via, err)
	}
	return nil
}

func defaultOf(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
