package uplink_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature/uplink"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/scenario"
	"fairlead.dev/fairlead/internal/world"
)

func Test(t *testing.T) { scenario.Run(t, uplink.Feature) }

// patience bounds what should come, and lost what should not.
const (
	patience = 20 * time.Second
	lost     = 500 * time.Millisecond
)

// second and client are addresses of the node's second uplink and of who asks there.
var (
	second = []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:2::1")}
	client = []netip.Addr{netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("2001:db8:3::10")}
)

// newNode makes a node with two uplinks to a network that passes what bears an uplink's
// address on that uplink only, and a pod on it.
func newNode(t *testing.T) (n *cluster.Node, outside *netnstest.Host) {
	t.Helper()
	n, outside = cluster.NewNode(t, 1), netnstest.New(t)
	n.Wire(outside, "u0")
	netnstest.Wire(n.Host, "eth1", outside, "u1")
	n.Address("eth1", second[0].String()+"/24", second[1].String()+"/64")
	outside.Address("u0", "192.0.2.254/24", "2001:db8:1::fe/64")
	outside.Address("u1", "203.0.113.254/24", "2001:db8:2::fe/64")
	outside.Address("lo", client[0].String()+"/32", client[1].String()+"/128")
	for _, command := range []string{
		"ip route add default via 192.0.2.254", "ip -6 route add default via 2001:db8:1::fe",
		"ip route add default via 203.0.113.254 dev eth1 table 100", "ip -6 route add default via 2001:db8:2::fe dev eth1 table 100",
	} {
		words := strings.Fields(command)
		n.Run(words[0], words[1:]...)
	}
	outside.Run("nft", `table inet provider { chain arriving { type filter hook prerouting priority -310
		iifname u0 ip saddr 203.0.113.0/24 drop
		iifname u0 ip6 saddr 2001:db8:2::/64 drop; }; }`)
	n.Sysctl("net/ipv4/conf/all/rp_filter", "0", "net/ipv4/conf/eth1/rp_filter", "0")
	serve(t, n.NewPod())
	return n, outside
}

// serve gives a pod host ports, and has it answer there.
func serve(t *testing.T, p *cluster.Pod) {
	t.Helper()
	p.HostPorts = []world.HostPort{{Port: 8080, Protocol: unix.IPPROTO_TCP, PodPort: 80}, {Port: 8053, Protocol: unix.IPPROTO_UDP, PodPort: 53}}
	p.Do(func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		u, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close(); u.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
		go func() {
			b := make([]byte, 64)
			for size, from, err := u.ReadFrom(b); err == nil; size, from, err = u.ReadFrom(b) {
				_, _ = u.WriteTo(b[:size], from) // who is gone asks no more
			}
		}()
		return nil
	})
}

// A question is to whom one is sent, and from which address.
type question struct {
	network string
	from    netip.Addr
	to      netip.AddrPort
}

// ask asks, and returns what keeps an answer away.
func ask(h *netnstest.Host, q question, within time.Duration) error {
	network, from, to := q.network, q.from, q.to
	return netns.Do(h.Path, func() error {
		d := net.Dialer{Timeout: within, LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
		if network == "udp" {
			d.LocalAddr = &net.UDPAddr{IP: from.AsSlice()}
		}
		c, err := d.Dial(network, to.String())
		if err != nil || network == "tcp" {
			if err == nil {
				c.Close()
			}
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 64))
		return err
	})
}

// What is asked at the second uplink is answered by it, as the node itself would:
// ports of pods, and what somebody else leads to a pod.
func TestAnswersLeaveByTheUplinkOfTheQuestion(t *testing.T) {
	t.Parallel()
	n, outside := newNode(t)
	n.Run("nft", fmt.Sprintf(`table inet services { chain prerouting { type nat hook prerouting priority dstnat
		tcp dport 30080 fib daddr type local dnat ip to %s:80
		tcp dport 30080 fib daddr type local dnat ip6 to [%s]:80; }; }`, n.Pods[0].Addresses[0], n.Pods[0].Addresses[1]))
	n.Apply(v1alpha1.AgentConfigSpec{})
	bare := ruled(n.Host)
	every := func(at []netip.Addr, within time.Duration, check func(what string, err error)) {
		for i := range client {
			for _, what := range []string{"tcp 8080", "udp 8053", "tcp 30080"} {
				var network string
				var port uint16
				if _, err := fmt.Sscan(what, &network, &port); err != nil {
					t.Fatal(err)
				}
				to := netip.AddrPortFrom(at[i], port)
				check(fmt.Sprint(network, " ", to), ask(outside, question{network, client[i], to}, within))
			}
		}
	}
	answered := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v\n%s", what, err, ruled(n.Host))
		}
	}
	every(n.Addresses, patience, answered)
	unanswered := func(what string, err error) {
		if err == nil {
			t.Errorf("%s is answered by the second uplink", what)
		}
	}
	every(second, lost, unanswered) // there is no rule
	for i, family := range []string{"-4", "-6"} {
		n.Run("ip", family, "rule", "add", "priority", "20000", "from", second[i].String(), "lookup", "100")
	}
	every(second, lost, unanswered) // it is for what the node sends
	n.Apply(v1alpha1.AgentConfigSpec{})
	every(second, patience, answered)
	every(n.Addresses, patience, answered)
	for i, family := range []string{"-4", "-6"} {
		n.Run("ip", family, "rule", "del", "from", second[i].String())
	}
	n.Apply(v1alpha1.AgentConfigSpec{})
	if now := ruled(n.Host); now != bare {
		t.Errorf("before the rules\n%s\nafter them\n%s", bare, now)
	}
}

// A node that asks another one for a pod's port is answered by the address that it asked,
// by the way it came: the tunnel takes packets of pods only, and of addresses that the
// cluster knows.
func TestNodesAreAnsweredByTheAddressTheyAsked(t *testing.T) {
	t.Parallel()
	const hidden = "192.0.2.77"
	n1, n2 := cluster.NewNode(t, 1), cluster.NewNode(t, 2)
	cluster.Join(n1, n2)
	n1.Address("eth0", hidden+"/24", "2001:db8:1::77/64")
	serve(t, n1.NewPod())
	n2.Run("nft", `table inet cloud { chain arriving { type filter hook prerouting priority -310
		iifname fl-vxlan ip saddr 192.0.2.0/24 drop
		iifname fl-vxlan ip6 saddr 2001:db8:1::/64 drop; }; }`)
	n1.Apply(v1alpha1.AgentConfigSpec{}, n2)
	n2.Apply(v1alpha1.AgentConfigSpec{}, n1)
	for i, at := range [][]netip.Addr{{n1.Addresses[0], netip.MustParseAddr(hidden)}, {n1.Addresses[1], netip.MustParseAddr("2001:db8:1::77")}} {
		for _, to := range at {
			if err := ask(n2.Host, question{"tcp", n2.Addresses[i], netip.AddrPortFrom(to, 8080)}, patience); err != nil {
				t.Errorf("%s does not answer: %v", to, err)
			}
		}
	}
}

func ruled(h *netnstest.Host) string { return h.Run("sh", "-c", "ip rule; ip -6 rule") }
