package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
)

// A link of ours leads to pods, which are believed nothing about the network: no
// router, no redirect, no route in a packet, no address of a third party. A new
// link would have of that what the node has by default, so each is given it all,
// and it is kept.

// A belief is one setting that every link of ours has, in one family.
type belief struct {
	name  string // under /proc/sys/net/ipv4/conf/LINK
	index int    // in what the kernel lists of a link
	value uint32
}

// The settings, by Linux Documentation/networking/ip-sysctl.rst, with their places in
// IFLA_INET_CONF (include/uapi/linux/ip.h, from 1) and IFLA_INET6_CONF
// (include/uapi/linux/ipv6.h, from 0).
var beliefs = map[string][]belief{
	"ipv4": {
		{"accept_local", 23 - 1, 0},
		{"accept_redirects", 4 - 1, 0},
		{"accept_source_route", 9 - 1, 0},
		{"arp_accept", 21 - 1, 0},
		// The node's neighbours are permanent, and so are its pods': who asks makes the
		// kernel remember him, and there is room for a thousand on the whole node.
		{"arp_ignore", 19 - 1, 8},
		{"bc_forwarding", 32 - 1, 0},
		{"proxy_arp", 3 - 1, 0},
		{"proxy_arp_pvlan", 25 - 1, 0},
		{"send_redirects", 6 - 1, 0},
	},
	"ipv6": {
		{"accept_ra", 3, 0},
		{"accept_redirects", 4, 0},
		{"accept_source_route", 24, 0},
		// A link has the addresses that it is given. With each link-local one that the
		// kernel made it would look at all routes of the node once more, when nobody else
		// turned out to have it (net/ipv6/addrconf.c, addrconf_dad_completed).
		{"addr_gen_mode", 47, 1},
		{"autoconf", 5, 0},
		{"proxy_ndp", 22, 0},
	},
}

// Places of the settings that not all links have alike.
const (
	forwarding4   = 0
	forwarding6   = 0
	routeLocalnet = 26 - 1
	disableIPv6   = 26
)

var families = []string{"ipv4", "ipv6"}

// beliefs is what l is to have, in the given family: also that it has the family and
// forwards it, if it leads to addresses of it.
func (l *Link) beliefs(family string) []belief {
	out := beliefs[family]
	like, place := netip.Addr.Is4, forwarding4
	if family == "ipv6" {
		like, place = netip.Addr.Is6, forwarding6
	} else {
		localnet := belief{"route_localnet", routeLocalnet, 0}
		if l.RouteLocalnet {
			localnet.value = 1
		}
		out = append(slices.Clip(out), localnet)
	}
	if !slices.ContainsFunc(l.leadsTo(), like) {
		return out
	}
	if family == "ipv6" { // else it is what new interfaces have (conf/default)
		out = append(slices.Clip(out), belief{"disable_ipv6", disableIPv6, 0})
	}
	return append(slices.Clip(out), belief{"forwarding", place, 1})
}

// families are those that l leads to: IPv4, IPv6.
func (l *Link) families() [2]bool {
	all := l.leadsTo()
	return [2]bool{slices.ContainsFunc(all, netip.Addr.Is4), slices.ContainsFunc(all, netip.Addr.Is6)}
}

// leadsTo are addresses that are reached by l, or with which it reaches others.
func (l *Link) leadsTo() (out []netip.Addr) {
	if l.Veth != nil {
		return l.Veth.Peer.Addresses
	}
	for _, p := range l.Addresses {
		out = append(out, p.Addr())
	}
	return out
}

func (l *Link) setting(family string, b belief) sysctl.Setting {
	return sysctl.Setting{Key: "net/" + family + "/conf/" + l.Name + "/" + b.name, Value: strconv.Itoa(int(b.value))}
}

// settings are all that l is to have.
func (l *Link) settings() (out []sysctl.Setting) {
	for _, family := range families {
		for _, b := range l.beliefs(family) {
			out = append(out, l.setting(family, b))
		}
	}
	return out
}

// settingsText is the command of sysctl(8) that makes them.
func (l *Link) settingsText() string {
	words := []string{"sysctl -w"}
	for _, s := range l.settings() {
		words = append(words, s.Key+"="+s.Value)
	}
	return strings.Join(words, " ")
}

// believe gives a new link its settings. What the kernel does not know, such as a
// family that is off, it does not believe either.
func believe(l *Link) error {
	c, err := confOf(l.Name)
	if err != nil {
		return err
	}
	for _, s := range (&Link{conf: c}).strayed(l) {
		if err := sysctl.Apply(s); err != nil {
			return err
		}
	}
	return nil
}

// A conf is the settings of a link as the kernel lists them, by family.
type conf map[string][]byte

// holds reports whether c has b, or no place for it.
func (c conf) holds(family string, b belief) bool {
	at := c[family]
	return len(at) < 4*(b.index+1) || binary.NativeEndian.Uint32(at[4*b.index:]) == b.value
}

// believes reports whether l has the settings that want is to have.
func (l *Link) believes(want *Link) bool {
	if l.conf != nil {
		return len(l.strayed(want)) == 0
	}
	return l.RouteLocalnet == want.RouteLocalnet && l.families() == want.families()
}

// strayed are the settings that want is to have and l has not.
func (l *Link) strayed(want *Link) (out []sysctl.Setting) {
	for _, family := range families {
		had := l.beliefs(family)
		for _, b := range want.beliefs(family) {
			if l.conf != nil && !l.conf.holds(family, b) || l.conf == nil && !slices.Contains(had, b) {
				out = append(out, want.setting(family, b))
			}
		}
	}
	return out
}

// Settled reports whether those of the links that are there have their settings.
// Settings announce no change, so one has to look; the kernel lists those of all
// links at once.
func Settled(links []*Link) (bool, error) {
	confs, err := Whole(readConfs)
	if err != nil {
		return false, err
	}
	for _, l := range links {
		if c := confs[l.Name]; c != nil && len((&Link{conf: c}).strayed(l)) > 0 {
			return false, nil
		}
	}
	return true, nil
}

// skipStats is RTEXT_FILTER_SKIP_STATS of include/uapi/linux/rtnetlink.h.
const skipStats = 1 << 3

// readConfs lists the settings of all links.
func readConfs() (map[string]conf, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.IFLA_EXT_MASK, skipStats)
	attributes, err := e.Encode()
	if err != nil {
		return nil, err
	}
	out := map[string]conf{}
	request := netlink.Message{Header: netlink.Header{Type: unix.RTM_GETLINK}, Data: append(make([]byte, unix.SizeofIfInfomsg), attributes...)}
	err = c.List(request, func(b []byte) {
		if name, found := readConf(b); found != nil {
			out[name] = found
		}
	})
	return out, err
}

// confOf is the settings of a link.
func confOf(name string) (conf, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	r.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	answers, err := r.Execute(unix.NETLINK_ROUTE, 0)
	if err == nil && len(answers) != 1 {
		err = fmt.Errorf("%d answers", len(answers))
	}
	if err != nil {
		return nil, fmt.Errorf("settings of %s: %w", name, err)
	}
	_, c := readConf(answers[0])
	return c, nil
}

// readConf reads one link's, from an answer of the kernel.
func readConf(b []byte) (name string, found conf) {
	found = conf{}
	attributes(b[min(len(b), unix.SizeofIfInfomsg):], func(typ uint16, body []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			name = strings.TrimRight(string(body), "\x00")
		case unix.IFLA_AF_SPEC:
			attributes(body, func(family uint16, body []byte) {
				attributes(body, func(typ uint16, body []byte) {
					switch {
					case family == unix.AF_INET && typ == unix.IFLA_INET_CONF:
						found["ipv4"] = slices.Clone(body)
					case family == unix.AF_INET6 && typ == unix.IFLA_INET6_CONF:
						found["ipv6"] = slices.Clone(body)
					}
				})
			})
		}
	})
	return name, found
}

// attributes calls visit with each attribute in b; a truncated one ends the walk.
func attributes(b []byte, visit func(typ uint16, body []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		size, typ := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < unix.SizeofNlAttr || size > len(b) {
			return
		}
		visit(typ&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:size])
		b = b[min(len(b), (size+3)&^3):]
	}
}
