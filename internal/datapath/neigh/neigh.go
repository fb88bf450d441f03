// Package neigh describes permanent neighbours, VXLAN forwarding entries and proxy
// neighbours as plain values and makes the kernel hold them.
//
// A neighbour says which hardware address an IP address has on a link; a
// forwarding entry says to which node a VXLAN link sends a hardware address.
// Both are permanent, so that no packet waits for discovery and nothing learned
// from the wire can change where packets go. Every one on a link of ours is
// ours. Of proxies, see [Proxy].
package neigh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// A Neighbour is an entry of the ARP or NDP table, or with Forward set of a
// VXLAN link's forwarding database.
type Neighbour struct {
	Link    string
	Addr    netip.Addr // the neighbour; for a forwarding entry the node to send to
	MAC     [6]byte
	Forward bool

	odd bool // found with something that no wanted entry has, such as a port
}

// Key is what the kernel tells two entries apart by.
func (n Neighbour) Key() Neighbour {
	if n.Forward {
		return Neighbour{Link: n.Link, MAC: n.MAC, Forward: true}
	}
	return Neighbour{Link: n.Link, Addr: n.Addr}
}

func (n Neighbour) mac() net.HardwareAddr { return n.MAC[:] }

// An Add makes the kernel hold an entry, in place of another with the same key.
type Add Neighbour

// String is the command of ip(8) or bridge(8).
func (a Add) String() string {
	n := Neighbour(a)
	if n.Forward {
		return fmt.Sprintf("bridge fdb replace %s dev %s dst %s self permanent", n.mac(), n.Link, n.Addr)
	}
	return fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud permanent", n.Addr, n.mac(), n.Link)
}

// Message is part of rtnl.Change.
func (a Add) Message(c *rtnl.Conn) (netlink.Message, error) {
	return Neighbour(a).message(c, unix.RTM_NEWNEIGH, netlink.Create|netlink.Replace)
}

// Refused is part of rtnl.Change.
func (a Add) Refused(_ *rtnl.Conn, err error) error { return err }

// A Delete removes an entry.
type Delete Neighbour

// String is the command of ip(8) or bridge(8).
func (d Delete) String() string {
	n := Neighbour(d)
	if n.Forward {
		return fmt.Sprintf("bridge fdb del %s dev %s self", n.mac(), n.Link)
	}
	return fmt.Sprintf("ip neigh del %s dev %s", n.Addr, n.Link)
}

// Message is part of rtnl.Change.
func (d Delete) Message(c *rtnl.Conn) (netlink.Message, error) {
	return Neighbour(d).Key().message(c, unix.RTM_DELNEIGH, 0)
}

// Refused is part of rtnl.Change. An entry that is gone, maybe with its link, is
// as wanted.
func (d Delete) Refused(_ *rtnl.Conn, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func (n Neighbour) message(c *rtnl.Conn, typ netlink.HeaderType, flags netlink.HeaderFlags) (netlink.Message, error) {
	index, err := c.Index(n.Link)
	if err != nil {
		return netlink.Message{}, err
	}
	h := unix.NdMsg{Family: unix.AF_INET, Ifindex: int32(index), State: unix.NUD_PERMANENT}
	switch {
	case n.Forward:
		h.Family, h.Flags = unix.AF_BRIDGE, unix.NTF_SELF
	case n.Addr.Is6():
		h.Family = unix.AF_INET6
	}
	attrs := []netlink.Attribute{{Type: unix.NDA_LLADDR, Data: n.MAC[:]}}
	if n.Addr.IsValid() {
		attrs = append(attrs, netlink.Attribute{Type: unix.NDA_DST, Data: n.Addr.AsSlice()})
	}
	return rtnl.NewMessage(typ, flags, h, attrs...)
}

// Read lists the permanent entries on links whose names begin with prefix.
func Read(c *rtnl.Conn, prefix string) ([]Neighbour, error) {
	var out []Neighbour
	listed := map[Neighbour]bool{} // the kernel lists some forwarding entries twice
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6, unix.AF_BRIDGE} {
		request, err := rtnl.NewMessage(unix.RTM_GETNEIGH, 0, unix.NdMsg{Family: family})
		if err == nil {
			// Without IPv6 a kernel answers with what it has instead.
			err = c.List(request, func(answer []byte) {
				n, ok := from(c, answer)
				if !ok || answer[0] != family || !strings.HasPrefix(n.Link, prefix) || listed[n] {
					return
				}
				if n.Forward {
					listed[n] = true
				}
				out = append(out, n)
			})
		}
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
	}
	return out, nil
}

// from is the entry in an answer, if it is permanent and of our kind.
func from(c *rtnl.Conn, answer []byte) (Neighbour, bool) {
	h, attrs := rtnl.Parse[unix.NdMsg](answer)
	if h.State&unix.NUD_PERMANENT == 0 {
		return Neighbour{}, false
	}
	n := Neighbour{Link: c.Name(int(h.Ifindex)), Forward: h.Family == unix.AF_BRIDGE}
	mac := false
	for typ, value := range attrs {
		switch typ {
		case unix.NDA_DST:
			n.Addr = rtnl.Addr(value)
		case unix.NDA_LLADDR:
			if len(value) == len(n.MAC) {
				n.MAC, mac = [6]byte(value), true
			}
		case unix.NDA_PORT, unix.NDA_VNI, unix.NDA_SRC_VNI, unix.NDA_IFINDEX:
			n.odd = true
		}
	}
	return n, mac && n.Addr.IsValid()
}
