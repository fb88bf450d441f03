package datapath_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/netnstest"
)

// guarded are the rules by which what a pod sends unmarked is unreachable, the first of
// each family those that spare what is not the pod's.
func guarded() datapath.State {
	p := &datapath.Part{}
	for _, cidr := range []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:1::/64")} {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if cidr.Addr().Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		p.Routes = append(p.Routes, route.Route{Dst: all, Table: datapath.EgressGuardTable})
		p.Rules = append(p.Rules,
			route.Rule{Priority: datapath.EgressPassPriority, From: all, In: "lo", Goto: datapath.EgressPassedPriority},
			route.Rule{Priority: datapath.EgressGuardPriority, From: cidr, Mask: 1 << 31, Table: datapath.EgressGuardTable},
			route.Rule{Priority: datapath.EgressGuardPriority, From: all, In: "vp", Mask: 1 << 31, Table: datapath.EgressGuardTable},
			route.Rule{Priority: datapath.EgressPassedPriority, From: all, Nop: true})
	}
	return datapath.State{p}
}

// A street is a pod, its node, which filters by the reverse path, and a host outside.
func street(t *testing.T) (pod, node, far *netnstest.Host) {
	t.Helper()
	pod, node, far = netnstest.New(t), netnstest.New(t), netnstest.New(t)
	netnstest.Wire(node, "eth0", far, "eth0")
	netnstest.Wire(node, "vp", pod, "eth0")
	node.Sysctl("net/ipv4/ip_forward", "1", "net/ipv6/conf/all/forwarding", "1", "net/ipv4/conf/all/rp_filter", "1")
	node.Address("eth0", "192.168.100.1/24", "fd00:100::1/64")
	node.Address("vp", "10.244.1.1/24", "fd00:1::1/64")
	far.Address("eth0", "192.168.100.9/24", "fd00:100::9/64")
	pod.Address("eth0", "10.244.1.5/24", "fd00:1::5/64")
	far.Route("10.244.1.0/24", "192.168.100.1")
	far.Route("fd00:1::/64", "fd00:100::1")
	pod.Route("0.0.0.0/0", "10.244.1.1")
	pod.Route("::/0", "fd00:1::1")
	// For what it forwards IPv4's filter asks as if the pod sent the answer (net/ipv4/route.c,
	// __mkroute_input), with the packet's mark where it is told to: so that has to say that it
	// was seen. IPv6 has no such filter: firewalls ask for the reverse path themselves.
	node.Sysctl("net/ipv4/conf/all/src_valid_mark", "1")
	run(t, node, "nft add table inet t { chain c { type filter hook prerouting priority -300; iifname eth0 meta mark set 0x80000000; meta nfproto ipv6 ip6 daddr fd00:1::5 fib saddr . iif oif missing counter drop; }; }")
	return pod, node, far
}

// dropped is how much the reverse path filters of h dropped, of IPv4 and IPv6.
func dropped(t *testing.T, h *netnstest.Host) (v4, v6 bool) {
	t.Helper()
	var names []string
	for line := range strings.Lines(run(t, h, "cat /proc/self/net/netstat")) {
		words := strings.Fields(line)
		for i, name := range names {
			v4 = v4 || name == "IPReversePathFilter" && i < len(words) && words[i] != "0"
		}
		names = words
		if len(words) > 1 && words[1] == "0" {
			names = nil
		}
	}
	return v4, !strings.Contains(run(t, h, "nft list table inet t"), "packets 0 ")
}

// send sends one packet from far to the address of at, and returns the socket there.
func send(t *testing.T, on, far *netnstest.Host, to string) net.PacketConn {
	t.Helper()
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(to), 7000))
	var l net.PacketConn
	on.Do(func() (err error) { l, err = net.ListenUDP("udp", at); return err })
	t.Cleanup(func() { l.Close() })
	far.Do(func() error {
		c, err := net.Dial("udp", at.String())
		if err != nil {
			return err
		}
		_, err = c.Write([]byte("x"))
		return errors.Join(err, c.Close())
	})
	return l
}

// What comes from outside passes the reverse path filter although the way back is
// unreachable for the pod itself, and so does what the node sends with an address of the
// pods' network.
func TestTheGuardIsForWhatPodsSend(t *testing.T) {
	t.Parallel()
	pod, node, far := street(t)
	apply(node, guarded())
	if left := diff(node, guarded()); !left.Empty() {
		t.Errorf("still to do:\n%s", left)
	}
	for _, c := range []struct{ pod, near, far string }{{"10.244.1.5", "10.244.1.1", "192.168.100.9"}, {"fd00:1::5", "fd00:1::1", "fd00:100::9"}} {
		l := send(t, pod, far, c.pod)
		if err := l.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.ReadFrom(make([]byte, 10)); err != nil {
			t.Errorf("%s: what comes from outside: %v", c.pod, err)
		}
		to := net.JoinHostPort(c.far, "8000")
		var door net.Listener
		far.Do(func() (err error) { door, err = net.Listen("tcp", to); return err })
		t.Cleanup(func() { door.Close() })
		pod.Do(func() error {
			if s, err := net.DialTimeout("tcp", to, 20*time.Second); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("%s: what the pod sends: %v, %v", c.pod, s, err)
			}
			return nil
		})
		node.Do(func() error {
			d := net.Dialer{Timeout: 20 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.near)}}
			s, err := d.DialContext(t.Context(), "tcp", to)
			if err != nil {
				t.Errorf("%s: what the node sends: %v", c.near, err)
				return nil
			}
			return s.Close()
		})
	}
	if v4, v6 := dropped(t, node); v4 || v6 {
		t.Errorf("reverse path filters dropped IPv4 %v, IPv6 %v", v4, v6)
	}
}

// Without a rule to go to the one that goes is passed over, and the filter drops what
// comes from outside. So none that comes or goes may leave that behind, wherever it stops.
func TestTheGuardComesBehindWhatSparesOthers(t *testing.T) {
	t.Parallel()
	pod, node, far := street(t)
	apply(node, guarded())
	node.Sysctl("net/ipv4/conf/all/src_valid_mark", "0")
	run(t, node, "ip rule del priority 162")
	run(t, node, "ip -6 rule del priority 162")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		for _, l := range []net.PacketConn{send(t, node, far, "10.244.1.1"), send(t, pod, far, "fd00:1::5")} {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if v4, v6 := dropped(t, node); v4 && v6 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("nothing is dropped without a rule to go to: IPv4 %v, IPv6 %v", v4, v6)
		}
	}
	for way, c := range map[string]datapath.Changes{"come": datapath.DiffStates(nil, guarded()), "go": datapath.DiffStates(guarded(), nil)} {
		for _, command := range []string{"ip rule ", "ip -6 rule "} {
			there := map[int]int{}
			if way == "go" {
				there = map[int]int{160: 1, 161: 2, 162: 1}
			}
			for _, line := range c.Lines() {
				for _, p := range []int{160, 161, 162} {
					if !strings.HasPrefix(line, command) || !strings.Contains(line, fmt.Sprintf(" priority %d ", p)) {
						continue
					}
					if there[p]--; strings.HasPrefix(line, command+"add") {
						there[p] += 2
					}
				}
				if there[161] > 0 && (there[160] == 0 || there[162] == 0) {
					t.Errorf("they %s: after %q the guard is alone", way, line)
				}
			}
		}
	}
}
