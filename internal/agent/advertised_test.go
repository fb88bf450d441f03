package agent

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/netnstest"
)

// advertise has the host tell the network of the named interface that it is no router,
// and s (RFC 4861 sections 4.2, 4.6.2).
func advertise(h *netnstest.Host, ifname string, s said) {
	p := netip.MustParsePrefix(s.prefix)
	advert := []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, byte(p.Bits()), 0xc0}
	for range 2 { // valid, preferred
		advert = binary.BigEndian.AppendUint32(advert, uint32(s.lifetime/time.Second))
	}
	advert = append(append(advert, 0, 0, 0, 0), p.Addr().AsSlice()...)
	h.Do(func() error {
		i, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6) // which the kernel gives its checksum
		if err != nil {
			return err
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
		to := unix.SockaddrInet6{ZoneId: uint32(i.Index), Addr: netip.MustParseAddr("ff02::1").As16()}
		sent := unix.Sendto(fd, advert, 0, &to)
		if errors.Is(sent, unix.ENETUNREACH) {
			sent = nil // the kernel has not noticed yet that the link is up; the next is sent
		}
		return errors.Join(err, sent, unix.Close(fd))
	})
}

// lasts is for how long the interface has an address of prefix; 0: it has none.
func (n *node) lasts(ifname, prefix string) (left time.Duration) {
	n.host.Do(func() error {
		l, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		addresses, err := netlink.AddrList(l, netlink.FAMILY_V6)
		for _, a := range addresses {
			if ip, _ := netip.AddrFromSlice(a.IP); netip.MustParsePrefix(prefix).Contains(ip) {
				left = time.Duration(a.ValidLft) * time.Second
			}
		}
		return err
	})
	return left
}

// What routers say: addresses of a prefix are good for so long.
type said struct {
	prefix   string
	lifetime time.Duration
}

// hears advertises until the interface has an address that lasts for half as long at least.
func (n *node) hears(t *testing.T, router *netnstest.Host, ifname string, s said) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); n.lasts(ifname, s.prefix) < s.lifetime/2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s takes no advertisement of %s; accept_ra is %s", ifname, s.prefix, n.acceptRA(ifname))
		}
		advertise(router, "eth0", s)
	}
}

func (n *node) acceptRA(ifname string) string {
	return strings.TrimSpace(n.host.Run("cat", "/proc/sys/net/ipv6/conf/"+ifname+"/accept_ra"))
}

// plug gives the node another interface, which leads to the network of a router.
func (n *node) plug(t *testing.T, ifname string) (router *netnstest.Host) {
	t.Helper()
	router = netnstest.New(t)
	netnstest.Wire(n.host, ifname+"-low", router, "eth0")
	n.host.Run("ip", "link", "add", ifname, "link", ifname+"-low", "type", "macvlan")
	n.host.Run("ip", "link", "set", ifname, "up")
	return router
}

const brief, lasting = "2001:db8:1::/64", "2001:db8:2::/64"

// What an interface has by advertisement lasts as long as the router says, although the
// node begins to forward; so does what comes later, and what somebody turned off.
func TestANodeThatForwardsGoesOnTakingAdvertisements(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv6/conf/all/forwarding", "0")
	n.hears(t, n.far, "eth0", said{brief, 4 * time.Second})
	n.mustTurn(t)
	n.hears(t, n.far, "eth0", said{brief, time.Hour})
	n.hears(t, n.far, "eth0", said{lasting, time.Hour})

	later := n.plug(t, "eth1")
	n.mustTurn(t)
	n.hears(t, later, "eth1", said{"2001:db8:3::/64", time.Hour})

	n.host.Sysctl("net/ipv6/conf/eth1/accept_ra", "1")
	if !n.peek() {
		t.Error("nobody notices that it is set back")
	}
	n.mustTurn(t)
	n.restart(t)
	n.plug(t, "eth2")
	n.mustTurn(t)
	for ifname, want := range map[string]string{"eth0": "2", "eth1": "2", "eth2": "2"} {
		if v := n.acceptRA(ifname); v != want {
			t.Errorf("accept_ra of %s is %s, want %s", ifname, v, want)
		}
	}
	n.host.Sysctl("net/ipv6/conf/eth1/accept_ra", "0") // a daemon takes over
	n.mustTurn(t)
	if v, d := n.acceptRA("eth1"), n.diffText(t); v != "0" || d != "" {
		t.Errorf("accept_ra of eth1 is %s; the kernel lacks:\n%s", v, d)
	}
}

// What may lead to a pod is believed nothing, be it ours or another network's. Nor is
// anything that was not before: a node that was a router takes nothing new.
func TestWiresTakeNoAdvertisements(t *testing.T) {
	for _, router := range []string{"0", "1"} {
		t.Run("forwarding "+router, func(t *testing.T) {
			n := newNode(t, nodes)
			n.host.Sysctl("net/ipv6/conf/all/forwarding", router)
			n.plug(t, "eth1")
			n.mustTurn(t)
			guest := netnstest.New(t)
			netnstest.Wire(n.host, "guest", guest, "eth0")
			n.attach(t, "a", netnstest.New(t))
			n.mustTurn(t)
			n.restart(t)
			n.mustTurn(t)
			want := map[string]string{"guest": "1", "eth0": "2", "eth1": "2"}
			if router == "1" {
				want["eth0"], want["eth1"] = "1", "1"
			}
			ours := n.ours(t)
			for _, l := range ours {
				want[l] = "0"
			}
			if len(ours) != 2 {
				t.Errorf("links of ours are %v", ours)
			}
			for ifname, v := range want {
				if got := n.acceptRA(ifname); got != v {
					t.Errorf("accept_ra of %s is %s, want %s", ifname, got, v)
				}
			}
		})
	}
}

// ours are the names of links of ours.
func (n *node) ours(t *testing.T) (out []string) {
	t.Helper()
	n.host.Do(func() error {
		links, err := net.Interfaces()
		for _, l := range links {
			if strings.HasPrefix(l.Name, datapath.LinkPrefix) {
				out = append(out, l.Name)
			}
		}
		return err
	})
	return out
}

const onlyIPv4 = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}
`

// A node that has no pods of IPv6 any more forwards it no more, and its settings are as
// they were, also where an agent before this one set them.
func TestSettingsOfIPv6GoWithIt(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		n := newNode(t, nodes)
		n.host.Sysctl("net/ipv6/conf/all/forwarding", "0", "net/ipv4/ip_forward", "0")
		n.plug(t, "eth1")
		before := sysctls(n.host)
		n.mustTurn(t)
		if v := n.acceptRA("eth1"); v != "2" {
			t.Fatalf("accept_ra is %s", v)
		}
		n.write(t, "objects.yaml", onlyIPv4)
		if restarted {
			n.restart(t)
		}
		n.mustTurn(t)
		now := sysctls(n.host)
		if now["net/ipv4/ip_forward"] != "1" {
			t.Error("IPv4 is not forwarded any more")
		}
		for key := range before {
			if strings.HasPrefix(key, "net/ipv4/") || strings.HasPrefix(key, "net/netfilter/") {
				delete(before, key)
				delete(now, key)
			}
		}
		same(t, before, now)
		n.write(t, "objects.yaml", nodes)
		n.mustTurn(t)
		if v := n.acceptRA("eth1"); v != "2" {
			t.Errorf("IPv6 is back, and accept_ra is %s", v)
		}
	}
}

// Pods that have IPv6 keep it while their node's Node has lost it.
func TestPodsKeepTheirForwarding(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv6/conf/all/forwarding", "0")
	n.attach(t, "a", netnstest.New(t))
	n.mustTurn(t)
	n.write(t, "objects.yaml", onlyIPv4)
	n.mustTurn(t)
	if v := strings.TrimSpace(n.host.Run("cat", "/proc/sys/net/ipv6/conf/all/forwarding")); v != "1" {
		t.Error("IPv6 is not forwarded any more")
	}
}

// Another network that takes over the pods may count on what the node has.
func TestSettingsStayWhereAnotherNetworkTakesOver(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv4/ip_forward", "0")
	n.mustTurn(t)
	n.write(t, "config.yaml", unchained)
	n.mustTurn(t)
	if v := strings.TrimSpace(n.host.Run("cat", "/proc/sys/net/ipv4/ip_forward")); v != "1" {
		t.Error("nothing is forwarded any more")
	}
	if back := n.setBack(t); !strings.Contains(back, "net/ipv4/ip_forward=0") {
		t.Errorf("uninstall sets back:\n%s", back)
	}
}
