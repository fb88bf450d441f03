package link

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// MissingInside looks at the end of l inside the pod, which belongs to the pod
// once it is made, and names what is not as it was made.
func (l *Link) MissingInside() ([]string, error) {
	var out []string
	err := netns.Do(l.Veth.Netns, func() error {
		p := l.Veth.Peer
		dev, err := netlink.LinkByName(p.Name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			out = []string{"the interface"}
			return nil
		}
		if err != nil {
			return err
		}
		if dev.Attrs().Flags&net.FlagUp == 0 {
			out = append(out, "that it is up")
		}
		if !bytes.Equal(dev.Attrs().HardwareAddr, p.MAC[:]) {
			out = append(out, fmt.Sprintf("hardware address %s", net.HardwareAddr(p.MAC[:])))
		}
		lacks, err := p.lacks(dev)
		for _, a := range lacks {
			out = append(out, fmt.Sprintf("address %s", a))
		}
		if err != nil {
			return err
		}
		for _, g := range p.Gateways {
			there, err := leads(dev, g)
			if err != nil {
				return err
			}
			if !there {
				out = append(out, fmt.Sprintf("default route by way of %s", g))
			}
		}
		return nil
	})
	return out, err
}

// lacks are the addresses of p that its device does not have.
func (p Peer) lacks(dev netlink.Link) ([]netip.Addr, error) {
	found, err := netlink.AddrList(dev, netlink.FAMILY_ALL)
	return slices.DeleteFunc(slices.Clone(p.Addresses), func(a netip.Addr) bool {
		return slices.ContainsFunc(found, func(f netlink.Addr) bool { return f.IP.Equal(a.AsSlice()) })
	}), err
}

// leads reports whether dev has a default route by way of the gateway.
func leads(dev netlink.Link, gateway netip.Addr) (bool, error) {
	family := unix.AF_INET
	if gateway.Is6() {
		family = unix.AF_INET6
	}
	routes, err := netlink.RouteList(dev, family)
	return slices.ContainsFunc(routes, func(r netlink.Route) bool {
		ones := 0
		if r.Dst != nil {
			ones, _ = r.Dst.Mask.Size()
		}
		return ones == 0 && r.Gw.Equal(gateway.AsSlice())
	}), err
}
