package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// flannel is the system as Flannel arranges it with its default settings and
// both families: pods on a bridge by the bridge and host-local plugins, what its
// CNI configuration delegates to; a VXLAN device for each family; and its rules
// in iptables. Neither flanneld nor its own plugin runs.
func flannel(b *bench) *system {
	s := &system{name: "Flannel's", goal: 0.97}
	nodes := []*flannelNode{newFlannelNode(b, 0), newFlannelNode(b, 1)}
	netnstest.Wire(nodes[0].Host, "eth0", nodes[1].Host, "eth0")
	for i, n := range nodes {
		n.Address("eth0", outers(i)[0].String()+"/24", outers(i)[1].String()+"/64")
		n.Sysctl(bridgeCalls4, "1", bridgeCalls6, "1")
		for family := range flannelFamilies {
			n.rules(family)
			n.Do(func() error { return n.tunnel(family) })
		}
	}
	for i, n := range nodes {
		for family := range flannelFamilies {
			n.Do(func() error { return n.peer(nodes[1-i], family) })
		}
	}
	for i, home := range homes {
		s.ends[i] = nodes[home].pod(fmt.Sprintf("flannel-%d", i))
	}
	s.ends[outside] = outsideOf(b, nodes[0].Host)
	return s
}

// Packets between ports of one bridge meet iptables, as kube-proxy and flanneld
// require. The settings belong to the network namespace.
const (
	bridgeCalls4 = "net/bridge/bridge-nf-call-iptables"
	bridgeCalls6 = "net/bridge/bridge-nf-call-ip6tables"
)

// A flannelNode is a node as Flannel leaves it.
type flannelNode struct {
	*netnstest.Host
	b      *bench
	number int
	pods   *podNetwork
	macs   []net.HardwareAddr // of its VXLAN devices
}

func newFlannelNode(b *bench, number int) *flannelNode {
	n := &flannelNode{Host: netnstest.New(b), b: b, number: number}
	n.Do(func() error {
		if v, err := sysctl.Read(bridgeCalls4); v == "" {
			return fmt.Errorf("this kernel has no br_netfilter, without which Flannel does not start: load it (%w)", err)
		}
		return nil
	})
	n.pods = newPodNetwork(b, pluginDir(b), flannelConf(b, number))
	return n
}

// flannelConf is the list in Flannel's manifest with the delegate written out,
// as its plugin writes it.
func flannelConf(b *bench, number int) string {
	return fmt.Sprintf(`{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
		{"type": "bridge", "hairpinMode": true, "isDefaultGateway": true, "isGateway": true, "ipMasq": false, "mtu": %d, "ipam": {
			"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}], [{"subnet": %q}]],
			"routes": [{"dst": %q}, {"dst": %q}]}},
		{"type": "portmap", "capabilities": {"portMappings": true}}]}`,
		podMTU, b.dir("addresses"), subnet(number, 0), subnet(number, 1), flannelFamilies[0].cluster, flannelFamilies[1].cluster)
}

// pod hangs a pod on the node's bridge by its plugins.
func (n *flannelNode) pod(container string) *end {
	p := &end{Host: netnstest.New(n.b)}
	n.Do(func() (err error) { p.addresses, err = n.pods.add(container, p.Path); return err })
	return p
}

// flannelFamilies are what differs between Flannel's two.
var flannelFamilies = []struct {
	cluster   netip.Prefix
	multicast string
	iptables  string
	device    string
	bits      int // of a node's subnet
}{
	{netip.MustParsePrefix("10.244.0.0/16"), "224.0.0.0/4", "iptables", "flannel.1", 24},
	{netip.MustParsePrefix("fd00:10:244::/48"), "ff00::/8", "ip6tables", "flannel-v6.1", 64},
}

// subnet holds the pods of node n.
func subnet(n, family int) netip.Prefix {
	return netip.PrefixFrom(addresses(n, 0)[family], flannelFamilies[family].bits)
}

// outers are a node's own addresses.
func outers(n int) []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(n + 1)}), netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%d", n+1))}
}

// rules loads the rules that flanneld sets for one family: masquerading, but for
// what kube-proxy masquerades and what stays in the cluster, and a way through
// the forward chain.
func (n *flannelNode) rules(family int) {
	f, own := flannelFamilies[family], subnet(n.number, family)
	masq := func(rule string) string { return "-A FLANNEL-POSTRTG " + rule + "\n" }
	const because, through = `-m comment --comment "flanneld masq" -j `, `-m comment --comment "flanneld forward" -j `
	text := "*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING " + because + "FLANNEL-POSTRTG\n" +
		masq("-m mark --mark 0x4000/0x4000 "+because+"RETURN") +
		masq(fmt.Sprintf("-s %s -d %s %sRETURN", own, f.cluster, because)) +
		masq(fmt.Sprintf("-s %s -d %s %sRETURN", f.cluster, own, because)) +
		masq(fmt.Sprintf("! -s %s -d %s %sRETURN", f.cluster, own, because)) +
		masq(fmt.Sprintf("-s %s ! -d %s %sMASQUERADE --random-fully", f.cluster, f.multicast, because)) +
		masq(fmt.Sprintf("! -s %s -d %s %sMASQUERADE --random-fully", f.cluster, f.cluster, because)) +
		"COMMIT\n*filter\n:FLANNEL-FWD - [0:0]\n-A FORWARD " + through + "FLANNEL-FWD\n" +
		fmt.Sprintf("-A FLANNEL-FWD -s %s %sACCEPT\n-A FLANNEL-FWD -d %s %sACCEPT\nCOMMIT\n", f.cluster, through, f.cluster, through)
	program := f.iptables + "-nft-restore"
	if _, err := exec.LookPath(program); err != nil {
		n.b.Fatalf("Flannel's arrangement needs %s: run make deps (it is in Debian's package iptables)", program)
	}
	restore := exec.Command(program, "--noflush")
	restore.Stdin = strings.NewReader(text)
	var said bytes.Buffer
	restore.Stdout, restore.Stderr = &said, &said
	if err := netns.Do(n.Path, restore.Run); err != nil {
		n.b.Fatalf("%s: %v\n%s\n%s", program, err, said.String(), text)
	}
}

// tunnel makes the VXLAN device of one family. Its MTU leaves 50 bytes for outer
// headers in both, as Flannel's does, although IPv6 takes 70.
func (n *flannelNode) tunnel(family int) error {
	l := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: flannelFamilies[family].device, MTU: podMTU},
		VxlanId: vni, Port: 8472, SrcAddr: outers(n.number)[family].AsSlice(), Learning: false}
	first := subnet(n.number, family).Addr()
	err := each([]func() error{
		func() error { return netlink.LinkAdd(l) },
		func() error { return netlink.AddrAdd(l, &netlink.Addr{IPNet: whole(first), Flags: unix.IFA_F_NODAD}) },
		func() error { return netlink.LinkSetUp(l) },
	})
	if err != nil {
		return err
	}
	made, err := netlink.LinkByName(l.Name)
	if err != nil {
		return err
	}
	n.macs = append(n.macs, made.Attrs().HardwareAddr)
	return nil
}

// peer leads to the pods of another node by one family.
func (n *flannelNode) peer(to *flannelNode, family int) error {
	l, err := netlink.LinkByName(flannelFamilies[family].device)
	if err != nil {
		return err
	}
	dst := subnet(to.number, family)
	index, via, mac := l.Attrs().Index, dst.Addr(), to.macs[family]
	return each([]func() error{
		func() error { return permanent(index, via, mac) },
		func() error {
			return netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
				State: netlink.NUD_PERMANENT, IP: outers(to.number)[family].AsSlice(), HardwareAddr: mac})
		},
		func() error {
			return netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK),
				Dst: &net.IPNet{IP: via.AsSlice(), Mask: net.CIDRMask(dst.Bits(), via.BitLen())}})
		},
	})
}
