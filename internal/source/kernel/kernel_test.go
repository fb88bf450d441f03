package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// The kernel's list of ports is read as it means, or refused.
func FuzzParseReserved(f *testing.F) {
	for _, s := range []string{"", "8080", "8080,9000-9010", ",", "1-", "-1", "9-5", "65536", "0-65535", "1,,2", " 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ranges, err := parseReserved(s)
		if err != nil && ranges != nil {
			t.Errorf("%q: %v and %v", s, ranges, err)
		}
		for _, r := range ranges {
			if r.High < r.Low {
				t.Errorf("%q has %s, which runs backwards", s, r)
			}
		}
	})
}

// What lives by advertisements is known by its routes and addresses, and what may from
// what has pods or guests at its far end.
func TestObserveTellsWhatLivesByAdvertisements(t *testing.T) {
	t.Parallel()
	h, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(h, "eth0", far, "eth0")
	h.Run("ip", "link", "add", "eth1", "link", "eth0", "type", "macvlan")
	h.Run("ip", "link", "add", "br0", "type", "bridge")
	type seen struct {
		world.Interface
		AcceptRA string
	}
	look := func() (out [3]seen) {
		h.Do(func() error {
			k, err := (&Observer{}).Observe(&world.Attachments{})
			for _, i := range k.Interfaces {
				if n := slices.Index([]string{"eth0", "eth1", "br0"}, i.Name); n >= 0 {
					i.Addresses, i.Fleeting = nil, nil
					out[n] = seen{i, k.AcceptRA[i.Name]}
				}
			}
			return err
		})
		return out
	}
	eth0 := seen{world.Interface{Name: "eth0", MTU: 1500}, ""}
	eth1 := seen{world.Interface{Name: "eth1", MTU: 1500, Hardware: true, Down: true}, "1"}
	br0 := seen{world.Interface{Name: "br0", MTU: 1500, Down: true}, ""}
	check := func(what string) {
		t.Helper()
		if d := cmp.Diff([3]seen{eth0, eth1, br0}, look()); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	check("at first")
	h.Address("eth0", "192.0.2.1/24")
	eth0.AcceptRA = "1"
	check("with an address")
	h.Run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0", "proto", "ra")
	eth0.Advertised = true
	check("with a route by advertisement")
	h.Run("ip", "address", "add", "2001:db8::1/64", "dev", "br0", "valid_lft", "3600", "preferred_lft", "3600")
	br0.Advertised, br0.AcceptRA = true, "1"
	check("with an address by advertisement")
	h.Sysctl("net/ipv6/conf/eth0/accept_ra", "2")
	eth0.AcceptRA = "2"
	check("with another setting, which announces nothing")
}

func TestObserveShowsWhatOthersHave(t *testing.T) {
	t.Parallel()
	h, far, pod := netnstest.New(t), netnstest.New(t), netnstest.New(t)
	netnstest.Wire(h, "eth0", far, "eth0")
	netnstest.Wire(h, "fl-0123456789ab", far, "ours")
	h.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1", "net/ipv4/ip_local_port_range", "40000 50000",
		"net/ipv4/ip_local_reserved_ports", "41000,42000-42010")
	h.Address("eth0", "192.0.2.1/24")
	h.Run("ip", "route", "add", "default", "via", "192.0.2.254")
	attachments := &world.Attachments{List: []*world.Attachment{
		{ContainerID: "there", Netns: pod.Path, Inode: netns.Inode(pod.Path)}, {ContainerID: "another", Netns: far.Path, Inode: 1},
		{ContainerID: "gone", Netns: "/run/netns/gone", Place: netns.Place(pod.Path)}, {ContainerID: "unknown", Netns: "/run/netns/gone"},
	}}
	capabilities := world.Capabilities{FullyRandomPorts: world.Capability{OK: true}}
	want := &world.Kernel{
		Interfaces: []world.Interface{
			{Name: "eth0", MTU: 1500, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
			{Name: "lo", MTU: 65536, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}},
		},
		AcceptRA:      map[string]string{"eth0": "1"},
		LocalPorts:    world.PortRange{Low: 40000, High: 50000},
		ReservedPorts: []world.PortRange{{Low: 41000, High: 41000}, {Low: 42000, High: 42010}},
		Capabilities:  capabilities,
		Seen:          []string{"there@"},
		Unseen:        []world.Unseen{{Attachment: "unknown@", Reason: "there is no /run/netns/gone, and /run/netns is not the directory in which it was"}},
		Exits:         []world.Exit{{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.1"), Gateway: netip.MustParseAddr("192.0.2.254"), MTU: 1500}},
		Uplinks:       []world.Uplink{{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.1")}},
		Resolvers:     []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("fe80::1")},
	}
	resolvers := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolvers, []byte("# a comment\nsearch example\nnameserver 192.0.2.53 \nnameserver\nnameserver nowhere\nnameserver fe80::1%eth0"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.Do(func() error {
		got, err := (&Observer{Capabilities: capabilities, ResolvConf: resolvers}).Observe(attachments)
		if err != nil {
			return err
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		return nil
	})
}

func TestProbeFindsWhatThisKernelDoes(t *testing.T) {
	if c := Probe(); !c.FullyRandomPorts.OK {
		t.Errorf("fully random ports: %s", c.FullyRandomPorts.Reason)
	}
}

// Every kind of change is announced.
func TestWatchAnnouncesEveryChange(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		watched int
		change  string // with a number: each one is another
	}{
		"link":       {links, "ip link add a%[1]d type veth peer name b%[1]d"},
		"address":    {links, "ip address add 192.0.2.%d/32 dev lo"},
		"route":      {links, "ip route add unreachable 192.0.2.%d/32"},
		"IPv6 route": {links, "ip -6 route add unreachable 2001:db8::%d/128"},
		"neighbour":  {links, "ip neigh add 192.0.2.%d lladdr 02:00:00:00:00:09 dev eth0"},
		"forwarding": {links, "bridge fdb add 02:00:00:00:00:%02d dev vx dst 192.0.2.9"},
		"table":      {rules, "nft add table inet fairlead-%d"},
		"queue":      {links, "tc qdisc replace dev eth0 root handle %d: tbf rate 1gbit burst 64kb latency 50ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, far := netnstest.New(t), netnstest.New(t)
			netnstest.Wire(h, "eth0", far, "eth0")
			h.Run("ip", strings.Fields("link add vx type vxlan id 1 local 192.0.2.1 dstport 4789")...)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			announced, ended := make(chan struct{}, 100), make(chan error, 1)
			tell := func() {
				select {
				case announced <- struct{}{}:
				default:
				}
			}
			go func() {
				ended <- netns.Do(h.Path, func() error { return (&Observer{}).watch(ctx, tt.watched, tell) })
			}()
			<-announced // the watch stands
			heard := false
			for n := 1; !heard && ctx.Err() == nil; n++ {
				words := strings.Fields(fmt.Sprintf(tt.change, n))
				h.Run(words[0], words[1:]...)
				select {
				case <-announced:
					heard = true
				case <-time.After(20 * time.Millisecond):
				}
			}
			cancel()
			if err := <-ended; err != nil || !heard {
				t.Errorf("announced: %v; the watch ended with %v", heard, err)
			}
		})
	}
}

// Interfaces that come and go while they are listed are no failure: a node that
// starts its pods has them all the time.
func TestObserveWhileInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	pair := func(name string) *netlink.Veth {
		return &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "x"}
	}
	h.Do(func() error {
		var errs []error
		for i := range 100 {
			errs = append(errs, netlink.LinkAdd(pair(fmt.Sprintf("a%d", i))))
		}
		return errors.Join(errs...)
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- netns.Do(h.Path, func() error {
			for ctx.Err() == nil {
				if err := errors.Join(netlink.LinkAdd(pair("b")), netlink.LinkDel(pair("b"))); err != nil {
					return err
				}
			}
			return nil
		})
	}()
	h.Do(func() error {
		for range 30 {
			if _, err := (&Observer{}).Observe(&world.Attachments{}); err != nil {
				return err
			}
			if _, err := datapath.Read(nil); err != nil {
				return err
			}
		}
		return nil
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What changed between the first look and the watch must not wait for chance.
func TestWatchAnnouncesWhatCameBefore(t *testing.T) {
	t.Parallel()
	h := netnstest.New(t)
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	announced := false
	h.Do(func() error {
		return (&Observer{}).watch(ctx, links, func() { announced = true; stop() })
	})
	if !announced {
		t.Error("nothing is announced while nothing changes")
	}
}

// What may go is known from what stays, and an interface that takes no routes
// from one that does.
func TestObserveTellsHowLongAddressesStay(t *testing.T) {
	t.Parallel()
	h, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(h, "eth0", far, "eth0")
	h.Sysctl("net/ipv6/conf/eth0/addr_gen_mode", "1")
	for _, add := range []string{
		"192.0.2.1/24", "192.0.2.2/24 valid_lft 3600 preferred_lft 3600", "192.0.2.3/24", // the last is secondary
		"2001:db8::1/64 nodad", "2001:db8::2/64 nodad preferred_lft 0", "2001:db8::3/64 nodad valid_lft 3600 preferred_lft 3600",
	} {
		h.Run("ip", strings.Fields("address add dev eth0 "+add)...)
	}
	look := func() world.Interface {
		var i world.Interface
		h.Do(func() error {
			k, err := (&Observer{}).Observe(&world.Attachments{})
			if err == nil {
				i = k.Interfaces[0]
			}
			return err
		})
		return i
	}
	i := look()
	if got, want := fmt.Sprint(i.Fleeting), "[192.0.2.2 2001:db8::3 2001:db8::2]"; got != want || i.Down {
		t.Errorf("fleeting are %s, want %s; down: %v; all are %v", got, want, i.Down, i.Addresses)
	}
	h.Run("ip", "link", "set", "eth0", "down")
	if !look().Down {
		t.Error("the interface is not seen to be down")
	}
}
