// Package neigh describes permanent neighbours and VXLAN forwarding entries as
// plain values and makes the kernel hold them.
//
// A neighbour says which hardware address an IP address has on a link; a
// forwarding entry says to which node a VXLAN link sends a hardware address.
// Both are permanent, so that no packet waits for discovery and nothing learned
// from the wire can change where packets go. Every one on a link of ours is
// ours.
package neigh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Neighbour is an entry of the ARP or NDP table, or with Forward set of a
// VXLAN link's forwarding database.
type Neighbour struct {
	Link    string
	Addr    netip.Addr // the neighbour; for a forwarding entry the node to send to
	MAC     [6]byte
	Forward bool
}

// Key is what the kernel tells two entries apart by.
func (n Neighbour) Key() Neighbour {
	if n.Forward {
		n.Addr = netip.Addr{}
		return n
	}
	n.MAC = [6]byte{}
	return n
}

// AddText is the command of ip(8) or bridge(8) that makes n.
func (n Neighbour) AddText() string {
	if n.Forward {
		return fmt.Sprintf("bridge fdb replace %s dev %s dst %s self permanent", n.mac(), n.Link, n.Addr)
	}
	return fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud permanent", n.Addr, n.mac(), n.Link)
}

// DeleteText is the command of ip(8) or bridge(8) that deletes n.
func (n Neighbour) DeleteText() string {
	if n.Forward {
		return fmt.Sprintf("bridge fdb del %s dev %s dst %s self", n.mac(), n.Link, n.Addr)
	}
	return fmt.Sprintf("ip neigh del %s dev %s", n.Addr, n.Link)
}

func (n Neighbour) mac() net.HardwareAddr { return n.MAC[:] }

// Read lists the permanent entries on the named links.
func Read(links []string) ([]Neighbour, error) {
	names := map[int]string{}
	for _, name := range links {
		link, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names[link.Attrs().Index] = name
	}
	var out []Neighbour
	listed := map[Neighbour]bool{} // the kernel lists some forwarding entries twice
	for _, family := range []int{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		found, err := netlink.NeighList(0, family)
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, f := range found {
			name, ours := names[f.LinkIndex]
			if n, ok := from(f, name); ours && ok && !listed[n] {
				listed[n] = true
				out = append(out, n)
			}
		}
	}
	return out, nil
}

func from(f netlink.Neigh, link string) (Neighbour, bool) {
	addr, ok := netip.AddrFromSlice(f.IP)
	if !ok || len(f.HardwareAddr) != 6 || f.State&netlink.NUD_PERMANENT == 0 {
		return Neighbour{}, false
	}
	return Neighbour{Link: link, Addr: addr.Unmap(), MAC: [6]byte(f.HardwareAddr), Forward: f.Family == unix.AF_BRIDGE}, true
}

// Add makes the kernel hold n, in place of another with the same key.
func Add(n Neighbour) error {
	nn, err := n.netlink()
	if err == nil {
		err = netlink.NeighSet(nn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.AddText(), err)
	}
	return nil
}

// Delete removes n. One that is gone is no error.
func Delete(n Neighbour) error {
	nn, err := n.netlink()
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // it went with its link
	}
	if err == nil {
		err = netlink.NeighDel(nn)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w", n.DeleteText(), err)
	}
	return nil
}

func (n Neighbour) netlink() (*netlink.Neigh, error) {
	link, err := netlink.LinkByName(n.Link)
	if err != nil {
		return nil, err
	}
	nn := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: n.Addr.AsSlice(), HardwareAddr: n.mac(),
	}
	if n.Forward {
		nn.Family, nn.Flags = unix.AF_BRIDGE, netlink.NTF_SELF
	}
	return nn, nil
}
