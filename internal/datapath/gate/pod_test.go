package gate_test

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
)

const own4, own6, ownLink = "10.244.1.2", "fd00:10:244:1::2", "fe80::a"

// ofPod is the gate of a pod.
func ofPod() gate.Gate {
	return gate.Gate{Link: "fl-pod", Sources: prefixes(own4+"/32", own6+"/128"), Neighbour: netip.MustParseAddr(ownLink)}
}

const tcp, udp, sctp, icmpv6, hopByHop, destination, routing, fragments = unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP,
	unix.IPPROTO_ICMPV6, unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT

// Types of ICMPv6.
const report, router, solicit, advertise, redirect, report2, echo = 131, 134, 135, 136, 137, 143, 128

const (
	tagQ, tagAD = unix.ETH_P_8021Q, unix.ETH_P_8021AD
	typ4, typ6  = unix.ETH_P_IP, unix.ETH_P_IPV6
)

var (
	forged4, forged6 = ipv4("10.244.1.3", "10.244.1.9", 1, 2, 3), ipv6("fd00:10:244:1::3", udp, make([]byte, 8)...)
	rightful4        = ipv4(own4, "10.244.1.9", 1, 2, 3)
	rightful6        = ipv6(own6, udp, make([]byte, 8)...)
	loopback         = outcome{refused: gate.Counts{gate.Loopback: 1}}
	nowhere          = outcome{}
)

// frames are what a pod may send, and what becomes of each.
var frames = []struct {
	name  string
	frame []byte
	want  outcome
}{
	{"own IPv4", ether(rightful4, typ4), passes(typ4)},
	{"own IPv6", ether(rightful6, typ6), passes(typ6)},
	{"own IPv6 with router's words, which need a link-local address", ether(ipv6(own6, icmpv6, icmp(router)...), typ6), passes(typ6)},
	{"forged IPv4", ether(forged4, typ4), forged()},
	{"forged IPv6", ether(forged6, typ6), forged()},
	{"IPv4 from nobody", ether(ipv4("0.0.0.0", "255.255.255.255"), typ4), forged()},
	{"own IPv4 mapped to IPv6", ether(ipv6("::ffff:"+own4, udp), typ6), forged()},
	{"to the loopback", ether(ipv4(own4, "127.0.0.1"), typ4), loopback},
	{"forged to the loopback", ether(ipv4("127.0.0.1", "127.255.0.1"), typ4), loopback},
	{"own ARP", arp(own4, "169.254.1.1", 0), passes(unix.ETH_P_ARP)},
	{"ARP of another", arp("10.244.1.3", "169.254.1.1", 0), forged()},
	{"IPv4 said to be IPv6", ether(rightful4, typ6), forged()},
	{"IPv6 said to be IPv4", ether(rightful6, typ4), forged()},
	{"short IPv4", ether(rightful4, typ4)[:14+19], forged()},
	{"short IPv6", ether(rightful6, typ6)[:14+39], forged()},
	{"short ARP", arp(own4, "169.254.1.1", 0)[:14+27], forged()},
	{"nothing", ether(nil, typ4)[:14], forged()},
	{"MPLS", ether(append([]byte{0, 1, 1, 64}, rightful4...), unix.ETH_P_MPLS_UC), forged()},
	{"PPPoE", ether(append([]byte{0x11, 0, 0, 1, 0, 22, 0, 0x21}, rightful4...), unix.ETH_P_PPP_SES), forged()},
	{"802.3 with LLC and SNAP", ether(append([]byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, rightful4...), 28), forged()},
	{"802.3 raw", ether([]byte{255, 255}, 28), forged()},
	{"reverse ARP", ether(nil, unix.ETH_P_RARP), forged()},
	{"control of the link", ether(nil, unix.ETH_P_LINK_CTL), forged()},
	{"tag of priority, own", ether(rightful4, tagQ, 0, typ4), passes(typ4)},
	{"tag of priority, forged IPv4", ether(forged4, tagQ, 0, typ4), forged()},
	{"tag of priority, forged IPv6", ether(forged6, tagQ, 0xe000, typ6), forged()},
	{"service tag of priority, forged IPv4", ether(forged4, tagAD, 0, typ4), forged()},
	{"two tags, forged IPv4", ether(forged4, tagQ, 0, tagQ, 0, typ4), forged()},
	{"two tags, own", ether(rightful4, tagQ, 0, tagQ, 0, typ4), forged()},
	{"service tag and tag, forged IPv4", ether(forged4, tagAD, 0, tagQ, 0, typ4), forged()},
	{"tag and service tag, forged IPv6", ether(forged6, tagQ, 0, tagAD, 0, typ6), forged()},
	{"two service tags, forged IPv6", ether(forged6, tagAD, 0, tagAD, 0, typ6), forged()},
	{"three tags, forged IPv4", ether(forged4, tagQ, 0, tagQ, 0, tagQ, 0, typ4), forged()},
	{"tag of VLAN 5, own", ether(rightful4, tagQ, 5, typ4), nowhere},
	{"tag of VLAN 5, forged", ether(forged4, tagQ, 5, typ4), forged()},
	{"tag of VLAN 5 and of priority, forged", ether(forged4, tagQ, 5, tagQ, 0, typ4), forged()},
	{"tag and no more", ether(nil, tagQ, 0)[:16], nowhere},
	{"IPv6 in IPv4, forged inside", ether(ipv4(own4, "10.244.1.9", forged6...), typ4), passes(typ4)}, // it is the pod's own tunnel
	{"from link-local: TCP", ether(ipv6(ownLink, tcp), typ6), passes(typ6)},
	{"from link-local: UDP", ether(ipv6(ownLink, udp), typ6), passes(typ6)},
	{"from link-local: SCTP", ether(ipv6(ownLink, sctp), typ6), passes(typ6)},
	{"from link-local: solicitation", ether(ipv6(ownLink, icmpv6, icmp(solicit)...), typ6), passes(typ6)},
	{"from link-local: advertisement", ether(ipv6(ownLink, icmpv6, icmp(advertise)...), typ6), passes(typ6)},
	{"from link-local: echo", ether(ipv6(ownLink, icmpv6, icmp(echo)...), typ6), passes(typ6)},
	{"from link-local: report", ether(ipv6(ownLink, hopByHop, options(icmpv6, 1, icmp(report2)...)...), typ6), passes(typ6)},
	{"from link-local: report behind many options", ether(ipv6(ownLink, hopByHop, options(icmpv6, 100, icmp(report2)...)...), typ6), passes(typ6)},
	{"from link-local: IPv6 inside", ether(ipv6(ownLink, unix.IPPROTO_IPV6, forged6...), typ6), forged()},
	{"from link-local: no message", ether(ipv6(ownLink, icmpv6), typ6)[:54], forged()},
	{"from link-local: options that end too early", ether(ipv6(ownLink, hopByHop, options(icmpv6, 32)...), typ6), forged()},
	{"from link-local: no options", ether(ipv6(ownLink, hopByHop), typ6)[:55], forged()},
	{"from link-local of another", ether(ipv6("fe80::b", udp), typ6), forged()},
	{"from none: solicitation", ether(ipv6("::", icmpv6, icmp(solicit)...), typ6), passes(typ6)},
	{"from none: report of old", ether(ipv6("::", hopByHop, options(icmpv6, 1, icmp(report)...)...), typ6), passes(typ6)},
	{"from none: report", ether(ipv6("::", hopByHop, options(icmpv6, 1, icmp(report2)...)...), typ6), passes(typ6)},
	{"from none: echo", ether(ipv6("::", icmpv6, icmp(echo)...), typ6), forged()},
	{"from none: advertisement of a router", ether(ipv6("::", icmpv6, icmp(router)...), typ6), forged()},
	{"from none: UDP", ether(ipv6("::", udp), typ6), forged()},
	{"from none: TCP behind options", ether(ipv6("::", hopByHop, options(tcp, 1)...), typ6), forged()},
	{"from loopback", ether(ipv6("::1", udp), typ6), forged()},
}

// Everything that a pod can send meets its gate, however it is wrapped, and wherever
// in memory it is.
func TestWhatComesThroughTheGateOfAPod(t *testing.T) {
	t.Parallel()
	d := newDoor(t, ofPod())
	for _, d.ring = range []bool{false, true} {
		for _, f := range frames {
			if d.ring && len(f.frame) == 14 {
				continue // the ring wants more than a header
			}
			if got := d.try(f.frame); got != f.want {
				t.Errorf("%s, ring %v: %+v, want %+v", f.name, d.ring, got, f.want)
			}
		}
	}
}

// No header hides what only routers say.
func TestNoPodSpeaksAsARouter(t *testing.T) {
	t.Parallel()
	d := newDoor(t, ofPod())
	for _, typ := range []byte{router, redirect} {
		for name, packet := range map[string][]byte{
			"plain":                       ipv6(ownLink, icmpv6, icmp(typ)...),
			"behind hop-by-hop options":   ipv6(ownLink, hopByHop, options(icmpv6, 1, icmp(typ)...)...),
			"behind many of them":         ipv6(ownLink, hopByHop, options(icmpv6, 60, icmp(typ)...)...),
			"behind destination options":  ipv6(ownLink, destination, options(icmpv6, 1, icmp(typ)...)...),
			"behind both":                 ipv6(ownLink, hopByHop, options(destination, 1, options(icmpv6, 1, icmp(typ)...)...)...),
			"behind hop-by-hop twice":     ipv6(ownLink, hopByHop, options(hopByHop, 1, options(icmpv6, 1, icmp(typ)...)...)...),
			"behind routing":              ipv6(ownLink, routing, options(icmpv6, 1, icmp(typ)...)...),
			"in a fragment":               ipv6(ownLink, fragments, fragment(icmpv6, icmp(typ)...)...),
			"in a fragment, options":      ipv6(ownLink, hopByHop, options(fragments, 1, fragment(icmpv6, icmp(typ)...)...)...),
			"from another's address":      ipv6("fe80::b", icmpv6, icmp(typ)...),
			"from none":                   ipv6("::", icmpv6, icmp(typ)...),
			"inside of IPv6":              ipv6(ownLink, unix.IPPROTO_IPV6, ipv6(ownLink, icmpv6, icmp(typ)...)...),
			"behind a header of security": ipv6(ownLink, unix.IPPROTO_AH, options(icmpv6, 1, icmp(typ)...)...),
		} {
			for _, d.ring = range []bool{false, true} {
				if got := d.try(ether(packet, typ6)); got != forged() {
					t.Errorf("%d %s, ring %v: %+v", typ, name, d.ring, got)
				}
			}
		}
	}
}

// A gate without a neighbour and one without any source let in less.
func TestAGateOfFewerSources(t *testing.T) {
	t.Parallel()
	for i, want := range [][2]outcome{{passes(typ4), forged()}, {forged(), passes(typ6)}, {forged(), forged()}} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			g := gate.Gate{Link: "fl-pod", Sources: ofPod().Sources}
			g.Sources = map[int][]netip.Prefix{0: g.Sources[:1], 1: g.Sources[1:]}[i]
			d := newDoor(t, g)
			for j, f := range [][]byte{ether(rightful4, typ4), ether(rightful6, typ6)} {
				if got := d.try(f); got != want[j] {
					t.Errorf("%d: %+v, want %+v", j, got, want[j])
				}
			}
			if got := d.try(ether(ipv6(ownLink, icmpv6, icmp(solicit)...), typ6)); got != forged() {
				t.Errorf("from link-local: %+v", got)
			}
		})
	}
}
