package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/ethtool"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
)

// Read lists the links whose names begin with prefix, sorted by name. A link
// that is down is listed without MTU, which no wanted link lacks.
func Read(prefix string) ([]*Link, error) {
	found, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	on := map[int][]netlink.Addr{}
	for _, a := range addresses {
		on[a.LinkIndex] = append(on[a.LinkIndex], a)
	}
	var out []*Link
	for _, f := range found {
		if strings.HasPrefix(f.Attrs().Name, prefix) {
			out = append(out, from(f, on[f.Attrs().Index]))
		}
	}
	confs, err := readConfs()
	if err != nil {
		return nil, err
	}
	for _, l := range out {
		l.conf = confs[l.Name]
		if l.VXLAN == nil {
			continue
		}
		state, err := ethtool.Read(l.Name)
		if err != nil && !errors.Is(err, unix.ENODEV) { // it went while we were listing
			return nil, err
		}
		l.NoTXChecksumOffload = state == ethtool.Off
	}
	slices.SortFunc(out, func(a, b *Link) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func from(f netlink.Link, addresses []netlink.Addr) *Link {
	a := f.Attrs()
	l := &Link{Name: a.Name}
	if len(a.HardwareAddr) == 6 {
		l.MAC = [6]byte(a.HardwareAddr)
	}
	if a.Flags&net.FlagUp != 0 {
		l.MTU = a.MTU
	}
	switch d := f.(type) {
	case *netlink.Vxlan:
		local, _ := netip.AddrFromSlice(d.SrcAddr)
		l.VXLAN = &VXLAN{VNI: d.VxlanId, Port: d.Port, Local: local.Unmap(), GBP: d.GBP}
		if d.Learning {
			l.VXLAN.VNI = -1 // learns from the wire: not a device we would make
		}
	case *netlink.Veth:
		l.Veth = &Veth{}
	case *netlink.Ifb:
		l.IFB = true
	}
	for _, found := range addresses {
		ip, _ := netip.AddrFromSlice(found.IP)
		bits, _ := found.Mask.Size()
		if ip = ip.Unmap(); ip.Is6() && ip.IsLinkLocalUnicast() {
			continue // the kernel's own
		}
		l.Addresses = append(l.Addresses, netip.PrefixFrom(ip, bits))
	}
	slices.SortFunc(l.Addresses, netip.Prefix.Compare)
	return l
}

func build(l *Link) error {
	if err := makeDevice(l); err != nil {
		return err
	}
	if err := believe(l); err != nil { // also that it has IPv6
		return err
	}
	for _, a := range l.Addresses {
		if err := addAddress(l.Name, a); err != nil {
			return err
		}
	}
	return nil
}

func makeDevice(l *Link) error {
	switch {
	case l.Veth != nil:
		return makeVeth(l)
	case l.VXLAN != nil:
		return makeVXLAN(l)
	default:
		return netlink.LinkAdd(&netlink.Ifb{LinkAttrs: newAttributes(l)})
	}
}

// newAttributes are what any link is made with; the rest is the kernel's choice.
func newAttributes(l *Link) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.HardwareAddr = l.Name, l.MTU, l.MAC[:]
	return a
}

func vxlan(l *Link) *netlink.Vxlan {
	return &netlink.Vxlan{
		LinkAttrs: newAttributes(l),
		VxlanId:   l.VXLAN.VNI, Port: l.VXLAN.Port, SrcAddr: l.VXLAN.Local.AsSlice(), UDPCSum: true, GBP: l.VXLAN.GBP,
	}
}

func makeVXLAN(l *Link) error {
	if err := netlink.LinkAdd(vxlan(l)); err != nil {
		return err
	}
	if !l.NoTXChecksumOffload {
		return nil
	}
	return ethtool.Apply(l.offload())
}

// makeVeth makes the pair and the inside of the pod. The pair is taken away
// again when the inside fails, so that the next try begins afresh.
func makeVeth(l *Link) error {
	ns, err := os.Open(l.Veth.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        newAttributes(l),
		PeerName:         l.Veth.Peer.Name,
		PeerHardwareAddr: l.Veth.Peer.MAC[:],
		PeerMTU:          uint32(l.MTU),
		PeerTxQLen:       -1,
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	})
	if err != nil {
		return err
	}
	if err := netns.Do(l.Veth.Netns, func() error { return furnish(l) }); err != nil {
		return errors.Join(err, remove(l.Name))
	}
	return nil
}

// allowIPv6 lets the pod's interface have IPv6 where the pod is to have it: some
// runtimes make namespaces in which it is off.
func allowIPv6(p Peer) error {
	if !slices.ContainsFunc(p.Addresses, netip.Addr.Is6) {
		return nil
	}
	off := sysctl.Setting{Key: "net/ipv6/conf/" + p.Name + "/disable_ipv6", Value: "0"}
	if v, err := sysctl.Read(off.Key); err != nil || v == off.Value {
		return err
	}
	return sysctl.Apply(off)
}

// furnish sets up the end inside the pod.
func furnish(l *Link) error {
	p := l.Veth.Peer
	dev, err := netlink.LinkByName(p.Name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(dev); err != nil {
		return err
	}
	if err := allowIPv6(p); err != nil {
		return err
	}
	for _, a := range p.Addresses {
		if err := addAddress(p.Name, netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	for _, g := range p.Gateways {
		index := dev.Attrs().Index
		neigh := &netlink.Neigh{LinkIndex: index, IP: g.AsSlice(), HardwareAddr: l.MAC[:], State: netlink.NUD_PERMANENT}
		if err := netlink.NeighSet(neigh); err != nil {
			return fmt.Errorf("neighbour %s: %w", g, err)
		}
		all := &net.IPNet{IP: make(net.IP, len(g.AsSlice())), Mask: make(net.IPMask, len(g.AsSlice()))}
		route := &netlink.Route{LinkIndex: index, Dst: all, Gw: g.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("default route via %s: %w", g, err)
		}
	}
	return nil
}

func setMTU(l *Link) error {
	dev, err := netlink.LinkByName(l.Name)
	if err != nil {
		return err
	}
	if dev.Attrs().MTU != l.MTU {
		if err := netlink.LinkSetMTU(dev, l.MTU); err != nil {
			return fmt.Errorf("set mtu %d: %w", l.MTU, err)
		}
	}
	return netlink.LinkSetUp(dev)
}

// Down takes a link down, if there is one of the name.
func Down(name string) error {
	dev, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(dev)
}

// setPeerMTU sets the MTU inside the pod. An end that the pod took away or gave
// another name is its own affair.
func setPeerMTU(l *Link) error {
	dev, err := netlink.LinkByName(l.Veth.Peer.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkSetMTU(dev, l.MTU)
}

// finish is the same for all that is set up inside the pod.
func finish(l *Link) error {
	if err := setPeerMTU(l); err != nil {
		return err
	}
	err := furnish(l)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return err
}

func addAddress(name string, a netip.Prefix) error {
	return changeAddress(name, a, netlink.AddrReplace)
}

func deleteAddress(name string, a netip.Prefix) error {
	return changeAddress(name, a, netlink.AddrDel)
}

func changeAddress(name string, a netip.Prefix, change func(netlink.Link, *netlink.Addr) error) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
	if a.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := change(dev, addr); err != nil {
		return fmt.Errorf("address %s: %w", a, err)
	}
	return nil
}

// How long a list is asked for that changes all the time, and how often where one takes long.
const (
	mostTime  = 5 * time.Second
	mostTries = 20
)

// Whole returns what list returns once the kernel says that nothing changed while
// it was listed.
func Whole[T any](list func() (T, error)) (T, error) {
	begun := time.Now()
	for try := 1; ; try++ {
		v, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || try >= mostTries && time.Since(begun) > mostTime {
			return v, err
		}
	}
}
