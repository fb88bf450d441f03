package guard_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

const overlayPort = 4789

// wrapped is a packet as the tunnel of the node takes it (RFC 7348 section 5), behind
// the outer UDP header.
func wrapped(node string, inner []byte) string {
	to, from := world.HashMAC("vxlan "+node), world.HashMAC("somebody")
	typ := uint16(unix.ETH_P_IP)
	if inner[0]>>4 == 6 {
		typ = unix.ETH_P_IPV6
	}
	b := []byte{0x08, 0, 0, 0, 0, 0, 1, 0}
	b = append(append(b, to[:]...), from[:]...)
	return string(append(binary.BigEndian.AppendUint16(b, typ), inner...))
}

// A way is one to feed the tunnel of a node from where nobody should.
type way struct {
	name string
	node func(site) *cluster.Node // whose tunnel
	send func(s site, payload string)
}

func first(s site) *cluster.Node  { return s.n1 }
func second(s site) *cluster.Node { return s.n2 }

func to(address string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(address), overlayPort)
}

// Addresses of the nodes of a site.
const (
	firstAddress, secondAddress = "192.0.2.1", "192.0.2.2"
	// hidden is an address of the second node that the cluster does not know.
	hidden = "192.0.2.77"
	// nodePort is a port of the first node that a Service, and kube-proxy, lead to
	// the overlay's port of a node, by way of these addresses.
	nodePort = 30000
)

var ways = []way{
	{"from a pod to its node", first, func(s site, p string) { say(s.a.Host, to(firstAddress), p) }},
	{"from a pod to its node, by the address among pods", first, func(s site, p string) { say(s.a.Host, to("10.244.1.1"), p) }},
	{"from a pod to another node", second, func(s site, p string) { say(s.a.Host, to(secondAddress), p) }},
	{"from a pod to another node, by the address among pods", second, func(s site, p string) { say(s.a.Host, to("10.244.2.1"), p) }},
	{"from a pod to another node, by an address that nobody knows", second, func(s site, p string) { say(s.a.Host, to(hidden), p) }},
	{"from a pod by a Service to its node", first, func(s site, p string) { serve(s.n1, firstAddress); say(s.a.Host, service(firstAddress), p) }},
	{"from a pod by a Service to another node", second, func(s site, p string) { serve(s.n1, secondAddress); say(s.a.Host, service(firstAddress), p) }},
	{"from a pod by a Service to another node's hidden address", second, func(s site, p string) { serve(s.n1, hidden); say(s.a.Host, service(firstAddress), p) }},
	{"from a pod by another node's Service to its node", first, func(s site, p string) { serve(s.n2, firstAddress); say(s.a.Host, service(secondAddress), p) }},
	{"from outside by a Service to a node", first, func(s site, p string) { serve(s.n1, firstAddress); say(s.stranger, service(firstAddress), p) }},
	{"from outside by a Service to another node", second, func(s site, p string) { serve(s.n1, secondAddress); say(s.stranger, service(firstAddress), p) }},
	{"from outside", first, func(s site, p string) { say(s.stranger, to(firstAddress), p) }},
	{"from outside, where somebody keeps it untracked", first, func(s site, p string) {
		untrack(s.n1)
		say(s.stranger, to(firstAddress), p)
	}},
	{"from a pod, where somebody keeps it untracked", first, func(s site, p string) {
		untrack(s.n1)
		say(s.a.Host, to(firstAddress), p)
	}},
	{"from a pod in fragments", first, func(s site, p string) {
		s.a.Run("ip", "route", "replace", firstAddress, "via", "169.254.1.1", "dev", "eth0", "onlink", "mtu", "lock", "600")
		say(s.a.Host, to(firstAddress), p)
	}},
	{"from a pod without a checksum", first, func(s site, p string) {
		body := binary.BigEndian.AppendUint16([]byte{1, 2, overlayPort >> 8, overlayPort & 0xff}, uint16(8+len(p)))
		body = append(append(body, 0, 0), p...)
		own, node := s.a.Addresses[0], netip.MustParseAddr(firstAddress)
		s.a.Do(func() error { return sendRaw(node, ip(own, node, unix.IPPROTO_UDP, body)) })
	}},
	{"from a pod inside the tunnel", second, func(s site, p string) {
		inner := rewrapped(s.n1.Addresses[0], s.n2.Addresses[0], p)
		s.n1.Do(func() error {
			return sendRaw(s.n2.Addresses[0], rewrapped(s.n1.Addresses[0], s.n2.Addresses[0], wrapped("n2", inner)))
		})
	}},
}

// rewrapped is a UDP packet to the overlay's port, from its IP header on.
func rewrapped(from, to netip.Addr, payload string) []byte {
	body := binary.BigEndian.AppendUint16([]byte{1, 2, overlayPort >> 8, overlayPort & 0xff}, uint16(8+len(payload)))
	return ip(from, to, unix.IPPROTO_UDP, append(append(body, 0, 0), payload...))
}

func service(node string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(node), nodePort)
}

// serve leads the node port to an endpoint as kube-proxy does.
func serve(n *cluster.Node, endpoint string) {
	n.Run("nft", fmt.Sprintf(`table ip kube-proxy {
	chain prerouting { type nat hook prerouting priority dstnat; udp dport %d mark set 0x4000 dnat to %s:%d; }
	chain postrouting { type nat hook postrouting priority srcnat; mark and 0x4000 == 0x4000 masquerade; }
}`, nodePort, endpoint, overlayPort))
}

// untrack keeps what is for the overlay's port out of conntrack, for whomever it is.
func untrack(n *cluster.Node) {
	n.Run("nft", fmt.Sprintf(`table inet untracked {
	chain prerouting { type filter hook prerouting priority -301; udp dport %d notrack; }
}`, overlayPort))
}

// Nobody but peers feeds the tunnel. Each way is one indeed: it works where nothing
// is guarded.
func TestOnlyPeersFeedTheTunnel(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		for _, w := range ways {
			for _, guarded := range []bool{false, true} {
				if !guarded && !k.tcx {
					continue // it works all the same
				}
				t.Run(fmt.Sprintf("%s, guarded %v", w.name, guarded), func(t *testing.T) {
					t.Parallel()
					s := k.newSite(t, v1alpha1.AgentConfigSpec{Features: map[string]bool{"guard": guarded}})
					s.n2.Address("eth0", hidden+"/24")
					victim, other := s.b, s.c
					if w.node(s) == s.n2 {
						victim, other = s.c, s.b
					}
					heard := listen(t, victim.Host)
					inner := packet(other.Addresses[0], victim.Addresses[0], "injected"+strings.Repeat(".", 700))
					w.send(s, wrapped(map[bool]string{true: "n1", false: "n2"}[w.node(s) == s.n1], inner))
					forge(other.Host, other.Addresses[0], victim.Addresses[0], last) // by the same tunnel
					if got := heardUntilLast(t, heard); len(got) == 1 == guarded {
						t.Errorf("heard %d injected packets", len(got))
					}
				})
			}
		}
	})
}

// A stranger and a pod are kept out of a tunnel over IPv6 as well.
func TestOnlyPeersFeedTheTunnelOverIPv6(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		for _, guarded := range []bool{false, true} {
			t.Run(fmt.Sprintf("guarded %v", guarded), func(t *testing.T) {
				t.Parallel()
				s := k.newSite(t, v1alpha1.AgentConfigSpec{})
				slices.Reverse(s.n1.Addresses)
				slices.Reverse(s.n2.Addresses)
				s.apply(v1alpha1.AgentConfigSpec{Features: map[string]bool{"guard": guarded}})
				heard := listen(t, s.b.Host)
				for _, by := range []*netnstest.Host{s.a.Host, s.stranger} {
					say(by, to("2001:db8:1::1"), wrapped("n1", packet(s.c.Addresses[0], s.b.Addresses[0], "injected")))
				}
				forge(s.c.Host, s.c.Addresses[0], s.b.Addresses[0], last)
				if got := heardUntilLast(t, heard); len(got) != map[bool]int{false: 2, true: 0}[guarded] {
					t.Errorf("heard %q", got)
				}
			})
		}
	})
}
