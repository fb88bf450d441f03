package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/world"
)

// Wires lists the wires that the kernel of the calling thread's network namespace
// holds and by which something is reached: veth pairs of ours whose other end is in
// another namespace, with the addresses that our routes lead to by them and
// the hardware address that these have.
func Wires() ([]*world.Attachment, error) { return link.Whole(wires) }

func wires() ([]*world.Attachment, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list veth pairs: %w", err)
	}
	to := map[int][]netip.Addr{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: datapath.RouteProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes of veth pairs: %w", err)
		}
		for _, r := range routes {
			if r.Dst == nil {
				continue
			}
			if addr, ok := netip.AddrFromSlice(r.Dst.IP); ok {
				to[r.LinkIndex] = append(to[r.LinkIndex], addr.Unmap())
			}
		}
	}
	at := map[int]world.MAC{}
	neighbours, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list neighbours on veth pairs: %w", err)
	}
	for _, n := range neighbours {
		if n.State == netlink.NUD_PERMANENT && len(n.HardwareAddr) == len(world.MAC{}) {
			at[n.LinkIndex] = world.MAC(n.HardwareAddr)
		}
	}
	var out []*world.Attachment
	for _, l := range links {
		a := l.Attrs()
		if strings.HasPrefix(a.Name, datapath.LinkPrefix) && l.Type() == "veth" && a.NetNsID >= 0 && len(to[a.Index]) > 0 {
			out = append(out, &world.Attachment{Wire: a.Name, Addresses: to[a.Index], MAC: at[a.Index]})
		}
	}
	return out, nil
}
