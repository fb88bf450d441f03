package neigh

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// A Proxy is an address for which the node answers on a link, ours or not, without
// having it (arp(7), "proxy"): who asks for its hardware address gets that of the link.
//
// Ours carry our routing protocol number (NDA_PROTOCOL). The kernel has one entry for
// each address and link: whoever adds it again takes it over, and anybody may delete it
// (Linux net/core/neighbour.c, neigh_add and neigh_delete). So before each change
// others' are listed, and left alone. It announces none of that.
type Proxy struct {
	Link string
	Addr netip.Addr

	odd bool // found with a flag that none of ours has
}

// Key is what the kernel tells two entries apart by.
func (p Proxy) Key() Proxy { return Proxy{Link: p.Link, Addr: p.Addr} }

func (p Proxy) dash6() string {
	if p.Addr.Is6() {
		return " -6"
	}
	return ""
}

// An AddProxy makes the node answer for an address, unless somebody else has it do so.
type AddProxy struct {
	Proxy
	Protocol uint8
}

// String is the command of ip(8).
func (a AddProxy) String() string {
	return fmt.Sprintf("ip%s neigh replace proxy %s dev %s protocol %d", a.dash6(), a.Addr, a.Link, a.Protocol)
}

// Message is part of rtnl.Change.
func (a AddProxy) Message(c *rtnl.Conn) (netlink.Message, error) {
	by, there, err := a.owner(c)
	if err == nil && there && by != a.Protocol {
		err = fmt.Errorf("somebody else has an entry for it (protocol %d)", by)
	}
	if err != nil {
		return netlink.Message{}, err
	}
	return a.message(c, unix.RTM_NEWNEIGH, a.Protocol)
}

// Refused is part of rtnl.Change.
func (a AddProxy) Refused(_ *rtnl.Conn, err error) error { return err }

// A DeleteProxy makes the node answer for an address no longer, unless somebody else
// has it do so now.
type DeleteProxy struct {
	Proxy
	Protocol uint8
}

// String is the command of ip(8).
func (d DeleteProxy) String() string {
	return fmt.Sprintf("ip%s neigh del proxy %s dev %s protocol %d", d.dash6(), d.Addr, d.Link, d.Protocol)
}

// Message is part of rtnl.Change.
func (d DeleteProxy) Message(c *rtnl.Conn) (netlink.Message, error) {
	by, there, err := d.owner(c)
	if err == nil && (!there || by != d.Protocol) {
		err = errGone
	}
	if err != nil {
		return netlink.Message{}, err
	}
	return d.message(c, unix.RTM_DELNEIGH, d.Protocol)
}

// errGone: there is no such entry of ours.
var errGone = errors.New("is not there")

// Refused is part of rtnl.Change. An entry that is gone, maybe with its link, is as
// wanted.
func (d DeleteProxy) Refused(_ *rtnl.Conn, err error) error {
	if errors.Is(err, errGone) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// header is that of a message about p.
func (p Proxy) header(c *rtnl.Conn) (unix.NdMsg, error) {
	index, err := c.Index(p.Link)
	h := unix.NdMsg{Family: unix.AF_INET, Ifindex: int32(index), Flags: unix.NTF_PROXY}
	if p.Addr.Is6() {
		h.Family = unix.AF_INET6
	}
	return h, err
}

// message is permanent: else the entry would go when the link loses its carrier.
func (p Proxy) message(c *rtnl.Conn, typ netlink.HeaderType, protocol uint8) (netlink.Message, error) {
	h, err := p.header(c)
	if err != nil {
		return netlink.Message{}, err
	}
	attrs := []netlink.Attribute{{Type: unix.NDA_DST, Data: p.Addr.AsSlice()}}
	if typ == unix.RTM_DELNEIGH {
		return rtnl.NewMessage(typ, 0, h, attrs...)
	}
	h.State = unix.NUD_PERMANENT
	return rtnl.NewMessage(typ, netlink.Create|netlink.Replace, h, append(attrs, netlink.Attribute{Type: ndaProtocol, Data: []byte{protocol}})...)
}

// ndaProtocol is NDA_PROTOCOL of Linux include/uapi/linux/neighbour.h.
const ndaProtocol = 12

// owner is the protocol of the kernel's entry for p, and whether there is one: also one
// that is for all links, which an addition would take over.
func (p Proxy) owner(c *rtnl.Conn) (protocol uint8, there bool, err error) {
	h, err := p.header(c)
	if err != nil {
		return 0, false, err
	}
	request, err := rtnl.NewMessage(unix.RTM_GETNEIGH, 0, h, netlink.Attribute{Type: unix.NDA_DST, Data: p.Addr.AsSlice()})
	if err != nil {
		return 0, false, err
	}
	answer, err := c.Ask(request)
	if errors.Is(err, unix.ENOENT) {
		return 0, false, nil
	}
	_, protocol, there = proxyFrom(c, answer)
	return protocol, there, err
}

// ReadProxies lists the entries of the given protocol.
func ReadProxies(c *rtnl.Conn, protocol uint8) (out []Proxy, err error) {
	err = everyProxy(c, func(p Proxy, by uint8) {
		if by == protocol {
			out = append(out, p)
		}
	})
	return out, err
}

// everyProxy calls visit with every entry and its protocol: 0 where it has none.
func everyProxy(c *rtnl.Conn, visit func(Proxy, uint8)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		request, err := rtnl.NewMessage(unix.RTM_GETNEIGH, 0, unix.NdMsg{Family: family, Flags: unix.NTF_PROXY})
		if err == nil {
			err = c.List(request, func(answer []byte) {
				if p, by, ok := proxyFrom(c, answer); ok && answer[0] == family {
					visit(p, by)
				}
			})
		}
		if err != nil {
			return fmt.Errorf("list proxy neighbours: %w", err)
		}
	}
	return nil
}

// proxyFrom is the entry in an answer, if it is one, and its protocol.
func proxyFrom(c *rtnl.Conn, answer []byte) (p Proxy, protocol uint8, ok bool) {
	h, attrs := rtnl.Parse[unix.NdMsg](answer)
	if h.Flags&unix.NTF_PROXY == 0 {
		return Proxy{}, 0, false
	}
	p.odd = h.Flags != unix.NTF_PROXY
	if h.Ifindex != 0 {
		p.Link = c.Name(int(h.Ifindex))
	}
	for typ, value := range attrs {
		switch typ {
		case unix.NDA_DST:
			p.Addr = rtnl.Addr(value)
		case ndaProtocol:
			protocol, _ = rtnl.Value[uint8](value)
		}
	}
	return p, protocol, p.Addr.IsValid()
}
