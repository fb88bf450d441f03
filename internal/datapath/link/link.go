// Package link describes network devices of ours as plain values and makes the
// kernel hold them: VXLAN devices, the veth pairs that are pods' wires, and IFB
// devices, by which what enters a wire can be queued.
//
// Ours are known by the beginning of their names. A veth pair is compared by
// the end on the node, which comes up last; the end inside the pod is set up
// before that, and belongs to the pod from then on, but for the MTU, which both
// ends share.
package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/ethtool"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
)

// A Link is a network device. Exactly one of VXLAN, Veth and IFB is set.
type Link struct {
	Name      string
	MTU       int
	MAC       [6]byte
	Addresses []netip.Prefix // sorted
	VXLAN     *VXLAN
	Veth      *Veth
	IFB       bool // an intermediate functional block device

	// NoTXChecksumOffload: the CPU makes the checksums of what the link sends. Only
	// a VXLAN device can be told; with others it is the kernel's choice.
	NoTXChecksumOffload bool
	// RouteLocalnet: connections of the node's loopback may leave by the link.
	RouteLocalnet bool

	conf conf // as the kernel was found to have it; nil: as it should
}

// VXLAN is a tunnel device (RFC 7348) without learning and without multicast:
// it sends only where forwarding entries say. Devices of one port are all with GBP or
// all without: the kernel brings up no other beside them (drivers/net/vxlan, vxlan_find_sock).
type VXLAN struct {
	VNI   int
	Port  int
	Local netip.Addr // the outer source
	// GBP: the lower 16 bits of a packet's mark cross the tunnel with it (Group Policy
	// Extension, draft-smith-vxlan-group-policy; ip-link(8)).
	GBP bool
}

// words are those of ip-link(8) that say what v is.
func (v *VXLAN) words() string {
	s := fmt.Sprintf("type vxlan id %d local %s dstport %d nolearning", v.VNI, v.Local, v.Port)
	if v.GBP {
		s += " gbp"
	}
	return s
}

// Veth is a pod's wire: the other end is Peer, inside Netns.
type Veth struct {
	Netns string // path of the pod's network namespace
	Peer  Peer
}

// A Peer is the end of a veth pair inside a pod.
type Peer struct {
	Name      string
	MAC       [6]byte
	Addresses []netip.Addr
	Gateways  []netip.Addr // next hops of its default routes, one of each family
}

// Equal reports whether l and m are the same on the node.
func (l *Link) Equal(m *Link) bool {
	return !l.differs(m) && l.MTU == m.MTU && l.NoTXChecksumOffload == m.NoTXChecksumOffload && slices.Equal(l.Addresses, m.Addresses) &&
		l.believes(m)
}

// differs reports whether l can only become m by being made anew.
func (l *Link) differs(m *Link) bool {
	if l.MAC != m.MAC || l.IFB != m.IFB || (l.VXLAN == nil) != (m.VXLAN == nil) || (l.Veth == nil) != (m.Veth == nil) {
		return true
	}
	return l.VXLAN != nil && *l.VXLAN != *m.VXLAN
}

// A Change is one step towards the wanted links.
type Change struct {
	text  []string
	apply func() error
	Link  string
	About string // Itself, Address, Offload or Setting
	New   bool   // the link is made anew: what hung on it is gone
	Rises bool   // the link comes up: what is to be there before, comes before
	Gone  bool   // the link goes: see [Remove]
}

// What a change can be about.
const (
	Itself  = "link"
	Address = "address"
	Offload = "offload"
	Setting = "setting"
)

// String is the change as commands of ip(8), one a line.
func (c Change) String() string { return strings.Join(c.text, "\n") }

// Apply makes the change.
func (c Change) Apply() error {
	if err := c.apply(); err != nil {
		return fmt.Errorf("%s: %w", c.text[0], err)
	}
	return nil
}

// Diff returns what turns the links in have into those wanted: first what adds,
// then what deletes.
func Diff(have, want []*Link) (add, del []Change) {
	old := map[string]*Link{}
	for _, h := range have {
		old[h.Name] = h
	}
	for _, w := range want {
		h, found := old[w.Name]
		delete(old, w.Name)
		switch {
		case h == w:
		case !found:
			add = append(add, create(w), rise(w))
		case h.differs(w):
			add = append(add, recreate(w), rise(w))
		case !h.Equal(w):
			add = append(add, alter(h, w)...)
		}
	}
	for _, h := range have {
		if _, left := old[h.Name]; left {
			del = append(del, Change{Link: h.Name, About: Itself, Gone: true, text: []string{"ip link del " + h.Name}, apply: func() error { return remove(h.Name) }})
		}
	}
	return add, del
}

func create(l *Link) Change {
	return Change{Link: l.Name, About: Itself, New: true, text: l.commands(), apply: func() error { return build(l) }}
}

// rise brings up a link that was made. A pod's end sends then.
func rise(l *Link) Change {
	return Change{Link: l.Name, About: Itself, Rises: true, text: []string{l.up()}, apply: func() error {
		if err := setMTU(l); err != nil || l.Veth == nil {
			return err
		}
		return netns.Do(l.Veth.Netns, func() error {
			_, err := ethtool.Carries(l.Veth.Peer.Name)
			if errors.Is(err, unix.ENODEV) { // the pod took it away
				return nil
			}
			return err
		})
	}}
}

func recreate(l *Link) Change {
	c := create(l)
	c.text = append([]string{"ip link del " + l.Name}, c.text...)
	c.apply = func() error {
		if err := remove(l.Name); err != nil {
			return err
		}
		return build(l)
	}
	return c
}

// alter changes in place what can be: settings, MTU, offload and addresses.
func alter(have, want *Link) []Change {
	var out []Change
	step := func(about, text string, apply func() error) {
		out = append(out, Change{Link: want.Name, About: about, text: []string{text}, apply: apply})
	}
	for _, s := range have.strayed(want) {
		step(Setting, s.String(), func() error { return sysctl.Apply(s) })
	}
	if have.MTU != want.MTU {
		out = append(out, resize(have, want))
	}
	if have.NoTXChecksumOffload != want.NoTXChecksumOffload {
		o := want.offload()
		step(Offload, o.String(), func() error { return ethtool.Apply(o) })
	}
	for _, a := range want.Addresses {
		if !slices.Contains(have.Addresses, a) {
			step(Address, addressText(a, want.Name), func() error { return addAddress(want.Name, a) })
		}
	}
	for _, a := range have.Addresses {
		if !slices.Contains(want.Addresses, a) {
			step(Address, fmt.Sprintf("ip address del %s dev %s", a, want.Name), func() error { return deleteAddress(want.Name, a) })
		}
	}
	return out
}

// resize sets the MTU: in the pod first, since only the node's end is compared. A
// wire that is down may be one that was not finished, because whoever made it was
// killed, so the inside of the pod is set up again.
func resize(have, want *Link) Change {
	c := Change{Link: want.Name, About: Itself, Rises: have.MTU == 0, text: []string{fmt.Sprintf("ip link set %s mtu %d up", want.Name, want.MTU)}, apply: func() error { return setMTU(want) }}
	if v := want.Veth; v != nil {
		setUp, text := setPeerMTU, []string{fmt.Sprintf("nsenter --net=%s ip link set %s mtu %d", v.Netns, v.Peer.Name, want.MTU)}
		if have.MTU == 0 {
			setUp, text = finish, append(text, want.inside()...)
		}
		c.text = append(text, c.text...)
		c.apply = func() error {
			if err := netns.Do(v.Netns, func() error { return setUp(want) }); err != nil {
				return err
			}
			return setMTU(want)
		}
	}
	return c
}

// commands are those of ip(8) that make l.
func (l *Link) commands() []string {
	mac := net.HardwareAddr(l.MAC[:])
	var out []string
	if v := l.VXLAN; v != nil {
		out = append(out, fmt.Sprintf("ip link add %s address %s mtu %d %s", l.Name, mac, l.MTU, v.words()))
	}
	if l.IFB {
		out = append(out, fmt.Sprintf("ip link add %s address %s mtu %d type ifb", l.Name, mac, l.MTU))
	}
	if l.NoTXChecksumOffload {
		out = append(out, l.offload().String())
	}
	if v := l.Veth; v != nil {
		p := v.Peer
		out = append(out, fmt.Sprintf("ip link add %s address %s mtu %d type veth peer name %s address %s mtu %d netns %s",
			l.Name, mac, l.MTU, p.Name, net.HardwareAddr(p.MAC[:]), l.MTU, v.Netns))
		out = append(out, l.inside()...)
	}
	out = append(out, l.settingsText())
	for _, a := range l.Addresses {
		out = append(out, addressText(a, l.Name))
	}
	return out
}

func (l *Link) up() string { return fmt.Sprintf("ip link set %s up", l.Name) }

// inside are the commands that set up the end inside the pod.
func (l *Link) inside() []string {
	p, in := l.Veth.Peer, "nsenter --net="+l.Veth.Netns+" "
	out := []string{fmt.Sprintf("%sip link set %s up", in, p.Name)}
	for _, a := range p.Addresses {
		out = append(out, in+addressText(netip.PrefixFrom(a, a.BitLen()), p.Name))
	}
	for _, g := range p.Gateways {
		out = append(out,
			fmt.Sprintf("%sip neigh replace %s lladdr %s dev %s nud permanent", in, g, net.HardwareAddr(l.MAC[:]), p.Name),
			fmt.Sprintf("%sip%s route replace default via %s dev %s onlink", in, dash6(g), g, p.Name))
	}
	return out
}

// offload is the setting that l asks for.
func (l *Link) offload() ethtool.Setting {
	if l.NoTXChecksumOffload {
		return ethtool.Setting{Link: l.Name, State: ethtool.Off}
	}
	return ethtool.Setting{Link: l.Name, State: ethtool.On}
}

func addressText(a netip.Prefix, link string) string {
	if a.Addr().Is6() {
		return fmt.Sprintf("ip address add %s dev %s nodad", a, link)
	}
	return fmt.Sprintf("ip address add %s dev %s", a, link)
}

func dash6(a netip.Addr) string {
	if a.Is6() {
		return " -6"
	}
	return ""
}

// Text is the commands of ip(8) that make l from nothing.
func (l *Link) Text() string { return strings.Join(append(l.commands(), l.up()), "\n") }
