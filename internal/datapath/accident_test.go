package datapath_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/ethtool"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/datapath/tc"
	"fairlead.dev/fairlead/internal/netnstest"
)

var (
	peerMAC = [6]byte{2, 0, 0, 0, 0, 2}
	podMAC  = [6]byte{2, 0, 0, 0, 0, 3}
)

// wholeNode is a state with one of everything: an overlay with a peer, and a pod
// whose namespace is at netns.
func wholeNode(netns string) datapath.State {
	const pod = "fl-0123456789ab"
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	return datapath.State{{
		Tables: []*nft.Table{{Name: datapath.SNATTable, Chains: []*nft.Chain{{
			Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.SNATPriority, Rules: []nft.Rule{{nft.Masquerade{}}},
		}}}},
		Links: []*link.Link{
			{Name: pod, MTU: 1450, MAC: datapath.WireMAC, Veth: &link.Veth{Netns: netns, Peer: link.Peer{
				Name: "eth0", MAC: podMAC, Addresses: []netip.Addr{addr("10.244.1.2"), addr("fd00:1::2")},
				Gateways: []netip.Addr{addr(datapath.PodGateway4), addr(datapath.PodGateway6)},
			}}},
			{Name: datapath.VXLANLink, MTU: 1450, MAC: [6]byte{2, 0, 0, 0, 0, 1},
				Addresses: []netip.Prefix{prefix("10.244.1.1/32"), prefix("fd00:1::1/128")},
				VXLAN:     &link.VXLAN{VNI: 1, Port: 4789, Local: addr("192.168.100.1")}, NoTXChecksumOffload: true},
			{Name: datapath.IFBLink(pod), MTU: 1450, MAC: datapath.WireMAC, IFB: true},
			{Name: datapath.EgressLink, MTU: 1450, MAC: [6]byte{2, 0, 0, 0, 1, 1}, Addresses: []netip.Prefix{prefix("169.254.2.1/32")},
				VXLAN: &link.VXLAN{VNI: 2, Port: 4790, Local: addr("192.168.100.1"), GBP: true}},
		},
		Neighbours: []neigh.Neighbour{
			{Link: pod, Addr: addr("10.244.1.2"), MAC: podMAC},
			{Link: pod, Addr: addr("fd00:1::2"), MAC: podMAC},
			{Link: datapath.VXLANLink, Addr: addr("192.168.100.2"), MAC: peerMAC, Forward: true},
			{Link: datapath.VXLANLink, Addr: addr("10.244.2.1"), MAC: peerMAC},
			{Link: datapath.VXLANLink, Addr: addr("fd00:2::1"), MAC: peerMAC},
			{Link: datapath.VXLANLink, Addr: addr("192.168.100.2"), MAC: peerMAC},
			{Link: datapath.VXLANLink, Addr: addr("fd00:100::2"), MAC: peerMAC},
		},
		Proxies: []neigh.Proxy{{Link: "lo", Addr: addr("192.168.100.77")}, {Link: "lo", Addr: addr("fd00:100::77")}},
		Routes: []route.Route{
			{Dst: prefix("10.244.1.0/24")},
			{Dst: prefix("fd00:1::/64")},
			{Dst: prefix("10.244.1.2/32"), Link: pod},
			{Dst: prefix("fd00:1::2/128"), Link: pod},
			{Dst: prefix("10.244.2.0/24"), Via: addr("10.244.2.1"), Link: datapath.VXLANLink, OnLink: true},
			{Dst: prefix("fd00:2::/64"), Via: addr("fd00:2::1"), Link: datapath.VXLANLink, OnLink: true},
			{Dst: prefix("192.168.100.2/32"), Link: datapath.VXLANLink, Table: datapath.NodesTable},
			{Dst: prefix("fd00:100::2/128"), Link: datapath.VXLANLink, Table: datapath.NodesTable},
			{Dst: prefix("0.0.0.0/0"), Via: addr("169.254.2.2"), Link: datapath.EgressLink, OnLink: true, Table: datapath.EgressTable},
			{Dst: prefix("::/0"), Via: addr("fe80::2:2"), Link: datapath.EgressLink, OnLink: true, Table: datapath.EgressTable},
			{Dst: prefix("0.0.0.0/0"), Table: datapath.EgressGuardTable},
			{Dst: prefix("::/0"), Table: datapath.EgressGuardTable},
		},
		Rules: []route.Rule{
			{Priority: datapath.NodesPriority, From: prefix("10.244.1.0/24"), Table: datapath.NodesTable},
			{Priority: datapath.NodesPriority, From: prefix("fd00:1::/64"), Table: datapath.NodesTable},
			{Priority: datapath.NodesPriority, From: prefix("0.0.0.0/0"), Mark: 0x10, Mask: 0xf0, Table: datapath.NodesTable},
			{Priority: datapath.NodesPriority, From: prefix("::/0"), To: prefix("fd07::/64"), Mark: 0x10, Mask: 0xf0, Table: datapath.NodesTable},
			{Priority: datapath.EgressPassPriority, From: prefix("0.0.0.0/0"), In: "lo", Goto: datapath.EgressPassedPriority},
			{Priority: datapath.EgressGuardPriority, From: prefix("0.0.0.0/0"), In: datapath.EgressLink, Mask: 1 << 31, Table: datapath.EgressGuardTable},
			{Priority: datapath.EgressGuardPriority, From: prefix("fd00:1::/64"), Mask: 1 << 31, Table: datapath.EgressGuardTable},
			{Priority: datapath.EgressPassedPriority, From: prefix("0.0.0.0/0"), Nop: true},
		},
		Shapers:   []tc.Shaper{{Link: pod, Rate: 10e6, Burst: 800e3}, {Link: datapath.IFBLink(pod), Rate: 20_000_001, Burst: 1<<31 - 1}},
		Redirects: []tc.Redirect{{Link: pod, To: datapath.IFBLink(pod)}},
		Settings:  []sysctl.Setting{{Key: "net/ipv4/ip_forward", Value: "1"}, {Key: "net/ipv6/conf/all/forwarding", Value: "1"}},
	}}
}

// accidents are commands that change what is ours.
var accidents = map[string]string{
	"route deleted":               "ip route del 10.244.2.0/24",
	"IPv6 route deleted":          "ip -6 route del fd00:2::/64",
	"route led elsewhere":         "ip route replace 10.244.2.0/24 dev lo proto 157",
	"route blocked":               "ip route replace unreachable 10.244.1.2/32 proto 157",
	"IPv6 route blocked":          "ip -6 route del fd00:2::/64; ip -6 route add unreachable fd00:2::/64 proto 157",
	"IPv6 route opened":           "ip -6 route del fd00:1::/64; ip -6 route add fd00:1::/64 dev fl-vxlan proto 157",
	"route added":                 "ip route add 10.99.0.0/16 dev fl-vxlan proto 157",
	"default route of ours":       "ip route add default dev fl-vxlan proto 157; ip -6 route add default dev fl-vxlan proto 157",
	"route added with a metric":   "ip route add 10.244.2.0/24 dev lo metric 7 proto 157; ip -6 route add fd00:2::/64 dev lo metric 7 proto 157",
	"route added for a service":   "ip route add 10.244.2.0/24 tos 0x10 dev lo proto 157",
	"packets dropped silently":    "ip route replace blackhole 10.244.1.0/24 proto 157",
	"packets spread":              "ip route replace 10.244.2.0/24 proto 157 nexthop dev lo nexthop via 10.244.2.1 dev fl-vxlan onlink",
	"packets cut":                 "ip route replace 10.244.2.0/24 via 10.244.2.1 dev fl-vxlan onlink mtu lock 600 proto 157",
	"route checked":               "ip -6 address add fd00:2::9/64 dev fl-vxlan nodad; ip -6 route replace fd00:2::/64 via fd00:2::1 dev fl-vxlan proto 157; ip -6 route del fd00:2::/64 proto kernel",
	"route to a node deleted":     "ip route del 192.168.100.2 table 157157; ip -6 route del fd00:100::2 table 157157",
	"route to a node added":       "ip route add 192.168.100.9 dev lo table 157157 proto 157; ip -6 route add fd00:100::9 dev lo table 157157 proto 157",
	"node led elsewhere":          "ip route replace 192.168.100.2 dev lo table 157157 proto 157",
	"rule deleted":                "ip rule del priority 157 from 10.244.1.0/24",
	"IPv6 rule deleted":           "ip -6 rule del priority 157 from fd00:1::/64",
	"rules flushed":               "ip rule flush protocol 157; ip -6 rule flush protocol 157",
	"place to go to deleted":      "ip rule del priority 162",
	"rule that goes deleted":      "ip rule del priority 160",
	"rule that goes elsewhere":    "ip rule del priority 160; ip rule add priority 160 iif lo goto 32766 protocol 157",
	"rule of a link deleted":      "ip rule del priority 161 iif fl-egress",
	"rule of another link":        "ip rule del priority 161 iif fl-egress; ip rule add priority 161 iif fl-vxlan fwmark 0/0x80000000 lookup 157159 protocol 157",
	"guarded rule deleted":        "ip -6 rule del priority 161 from fd00:1::/64",
	"steered nowhere":             "ip route del default table 157158; ip -6 route del default table 157158",
	"guard opened":                "ip route replace default dev fl-egress table 157159 proto 157; ip -6 route del unreachable default table 157159",
	"rule of a mark deleted":      "ip rule del fwmark 0x10/0xf0; ip -6 rule del to fd07::/64 fwmark 0x10/0xf0",
	"rule with another mask":      "ip rule del fwmark 0x10/0xf0; ip rule add priority 157 fwmark 0x10/0xff lookup 157157 protocol 157",
	"rule led elsewhere":          "ip rule del priority 157 from 10.244.1.0/24; ip rule add priority 157 from 10.244.1.0/24 lookup 158 protocol 157",
	"rule put elsewhere":          "ip -6 rule del priority 157 from fd00:1::/64; ip -6 rule add priority 32 from fd00:1::/64 lookup 157157 protocol 157",
	"rule added":                  "ip rule add priority 99 from 10.9.0.0/16 lookup 157157 protocol 157; ip -6 rule add priority 99 from fd09::/64 lookup main protocol 157",
	"rules of other kinds added":  "ip rule add priority 98 from 10.244.1.0/24 to 10.9.0.0/16 iif lo ipproto tcp dport 80 blackhole protocol 157; ip -6 rule add priority 98 not from fd00:1::/64 tos 0x10 lookup 157157 suppress_prefixlength 0 protocol 157; ip rule add priority 97 goto 32766 protocol 157",
	"neighbour deleted":           "ip neigh del 10.244.2.1 dev fl-vxlan",
	"neighbour changed":           "ip neigh replace 10.244.2.1 lladdr 02:00:00:00:00:99 dev fl-vxlan nud permanent",
	"neighbour may be forgotten":  "ip neigh replace fd00:2::1 lladdr 02:00:00:00:00:02 dev fl-vxlan nud reachable",
	"neighbour added":             "ip neigh add 10.244.9.1 lladdr 02:00:00:00:00:09 dev fl-vxlan nud permanent",
	"proxy deleted":               "ip neigh del proxy 192.168.100.77 dev lo",
	"forwarding entry deleted":    "bridge fdb del 02:00:00:00:00:02 dev fl-vxlan dst 192.168.100.2 self",
	"forwarding entry changed":    "bridge fdb replace 02:00:00:00:00:02 dev fl-vxlan dst 192.168.100.66 self permanent",
	"forwarded to another port":   "bridge fdb replace 02:00:00:00:00:02 dev fl-vxlan dst 192.168.100.2 port 8472 self permanent",
	"forwarded in another VNI":    "bridge fdb replace 02:00:00:00:00:02 dev fl-vxlan dst 192.168.100.2 vni 9 self permanent",
	"forwarding entry added":      "bridge fdb add 02:00:00:00:00:09 dev fl-vxlan dst 192.168.100.9 self permanent",
	"flood entry added":           "bridge fdb append 00:00:00:00:00:00 dev fl-vxlan dst 192.168.100.9 self permanent",
	"MTU changed":                 "ip link set fl-vxlan mtu 1300",
	"MTU of a wire changed":       "ip link set fl-0123456789ab mtu 9000",
	"overlay down":                "ip link set fl-vxlan down",
	"offload on":                  "ethtool -K fl-vxlan tx-checksum-ip-generic on",
	"wire down":                   "ip link set fl-0123456789ab down",
	"address deleted":             "ip address del 10.244.1.1/32 dev fl-vxlan",
	"IPv6 address deleted":        "ip address del fd00:1::1/128 dev fl-vxlan",
	"address added":               "ip address add 10.77.0.1/24 dev fl-vxlan",
	"address on a wire":           "ip address add fd77::1/64 dev fl-0123456789ab nodad",
	"overlay deleted":             "ip link del fl-vxlan",
	"wire deleted":                "ip link del fl-0123456789ab",
	"overlay with another VNI":    "ip link del fl-vxlan; ip link add fl-vxlan address 02:00:00:00:00:01 mtu 1450 type vxlan id 7 local 192.168.100.1 dstport 4789 nolearning; ip link set fl-vxlan up",
	"overlay with another port":   "ip link del fl-vxlan; ip link add fl-vxlan address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 local 192.168.100.1 dstport 8472 nolearning; ip link set fl-vxlan up",
	"overlay that learns":         "ip link del fl-vxlan; ip link add fl-vxlan address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 local 192.168.100.1 dstport 4789 learning; ip link set fl-vxlan up",
	"overlay that floods":         "ip link del fl-vxlan; ip link add fl-vxlan address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 local 192.168.100.1 remote 192.168.100.9 dstport 4789 nolearning; ip link set fl-vxlan up",
	"overlay that is no overlay":  "ip link del fl-vxlan; ip link add fl-vxlan address 02:00:00:00:00:01 mtu 1450 type veth peer name away; ip link set fl-vxlan up",
	"tunnel without marks":        "ip link del fl-egress; ip link add fl-egress address 02:00:00:00:01:01 mtu 1450 type vxlan id 2 local 192.168.100.1 dstport 4790 nolearning; ip link set fl-egress up",
	"overlay with marks":          "ip link del fl-vxlan; ip link add fl-vxlan address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 local 192.168.100.1 dstport 4789 nolearning gbp; ip link set fl-vxlan up",
	"overlay's address changed":   "ip link set fl-vxlan address 02:00:00:00:00:77",
	"wire of a pod that was":      "ip link add fl-ffffffffffff type veth peer name gone; ip link set gone up; ip link set fl-ffffffffffff up; ip route add 10.244.1.9/32 dev fl-ffffffffffff proto 157",
	"forwarding off":              "sysctl net/ipv4/ip_forward=0",
	"IPv6 forwarding off":         "sysctl net/ipv6/conf/all/forwarding=0",
	"shaper deleted":              "tc qdisc del dev fl-0123456789ab root",
	"shaper with another rate":    "tc qdisc replace dev fl-0123456789ab root tbf rate 11mbit burst 100000 limit 350000",
	"shaper with another burst":   "tc qdisc replace dev fl-0123456789ab root tbf rate 10mbit burst 90000 limit 350000",
	"shaper with another limit":   "tc qdisc replace dev fl-0123456789ab root tbf rate 10mbit burst 100000 limit 350001",
	"shaper with a peak":          "tc qdisc replace dev fl-0123456789ab root tbf rate 10mbit burst 100000 limit 350000 peakrate 20mbit mtu 1500",
	"shaper of another kind":      "tc qdisc del dev fl-0123456789ab root; tc qdisc add dev fl-0123456789ab root handle 1: htb default 1",
	"what is sent not shaped":     "tc qdisc del dev fl-i0123456789a root",
	"hook deleted":                "tc qdisc del dev fl-0123456789ab clsact",
	"redirect deleted":            "tc filter del dev fl-0123456789ab ingress",
	"redirect led elsewhere":      "tc filter del dev fl-0123456789ab ingress; tc filter add dev fl-0123456789ab ingress pref 157 protocol all u32 match u32 0 0 action mirred egress redirect dev lo",
	"redirect twice":              "tc filter add dev fl-0123456789ab ingress pref 157 protocol all u32 match u32 0 0 action mirred egress redirect dev lo",
	"redirect for some":           "tc filter del dev fl-0123456789ab ingress; tc filter add dev fl-0123456789ab ingress pref 157 protocol all u32 match u32 1 1 action mirred egress redirect dev fl-i0123456789a",
	"redirect for IPv4":           "tc filter del dev fl-0123456789ab ingress; tc filter add dev fl-0123456789ab ingress pref 157 protocol ip u32 match u32 0 0 action mirred egress redirect dev fl-i0123456789a",
	"mirror, not redirect":        "tc filter del dev fl-0123456789ab ingress; tc filter add dev fl-0123456789ab ingress pref 157 protocol all u32 match u32 0 0 action mirred egress mirror dev fl-i0123456789a",
	"queue of a wire deleted":     "ip link del fl-i0123456789a",
	"queue of a wire down":        "ip link set fl-i0123456789a down",
	"queue of no wire":            "ip link add fl-iffffffffff type ifb",
	"table deleted":               "nft delete table inet fairlead-snat",
	"a table of an older version": "nft add table inet fairlead-old",
	"everything at once":          "ip link del fl-vxlan; ip link del fl-0123456789ab; ip route flush proto 157; ip -6 route flush proto 157; nft flush ruleset",
}

// Whatever happens to what is ours is found and repaired, and nothing is left.
func TestEveryAccidentIsRepaired(t *testing.T) {
	t.Parallel()
	for name, script := range accidents {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node, pod := netnstest.New(t), netnstest.New(t)
			want := wholeNode(pod.Path)
			apply(node, want)
			before := listing(t, node)
			for command := range strings.SplitSeq(script, "; ") {
				run(t, node, command)
			}
			found := diff(node, want)
			if found.Empty() {
				t.Error("not found")
			}
			apply(node, want)
			if left := diff(node, want); !left.Empty() {
				t.Errorf("after\n%sstill to do:\n%s", found, left)
			}
			if d := cmp.Diff(before, listing(t, node)); d != "" {
				t.Errorf("after\n%snot as before (-before +after):\n%s", found, d)
			}
		})
	}
}

// What others have put beside ours is theirs.
func TestWhatOthersHaveIsLeftAlone(t *testing.T) {
	t.Parallel()
	node, pod := netnstest.New(t), netnstest.New(t)
	for _, command := range []string{
		"ip link add eth0 type veth peer name eth1", "ip link set eth0 up", "ip link set eth1 up", "ip address add 192.168.100.1/24 dev eth0",
		"ip route add 10.9.0.0/16 dev eth0", "ip route add 10.8.0.0/16 dev eth0 proto 156", "ip -6 route add fd09::/64 dev eth0",
		"ip route add 10.7.0.0/16 dev eth0 table 100 proto 157", "ip route add 10.7.0.0/16 dev eth0 table 157157",
		"ip rule add priority 157 from 10.7.0.0/16 lookup 157157", "ip rule add priority 157 from 10.244.1.0/24 lookup 100 protocol 156",
		"ip neigh add 192.168.100.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent", "nft add table inet other",
	} {
		run(t, node, command)
	}
	before := listing(t, node)
	apply(node, wholeNode(pod.Path))
	apply(node, nil)
	if left := diff(node, nil); !left.Empty() {
		t.Errorf("still to do:\n%s", left)
	}
	if d := cmp.Diff(before, listing(t, node)); d != "" {
		t.Errorf("others' things (-before +after):\n%s", d)
	}
}

func diff(h *netnstest.Host, want datapath.State) datapath.Changes {
	var c datapath.Changes
	h.Do(func() error {
		have, err := datapath.Read(want)
		c = datapath.Diff(have, want)
		return err
	})
	return c
}

func apply(h *netnstest.Host, want datapath.State) {
	c := diff(h, want)
	h.Do(func() error { return datapath.Apply(c) })
}

// run runs one command on h; sysctl(8) and ethtool(8) need not be there for it.
func run(t *testing.T, h *netnstest.Host, command string) string {
	t.Helper()
	words := strings.Fields(command)
	switch words[0] {
	case "sysctl":
		key, value, _ := strings.Cut(words[1], "=")
		h.Sysctl(key, value)
		return ""
	case "ethtool":
		h.Do(func() error { return ethtool.Apply(ethtool.Setting{Link: words[2], State: ethtool.State(words[4])}) })
		return ""
	}
	if _, err := exec.LookPath(words[0]); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	return h.Run(words[0], words[1:]...)
}

// byKernel is what the kernel adds by itself, some of it a little later.
var byKernel = regexp.MustCompile(`fe80::|^33:33:|^01:00:5e:|\btable local\b|^multicast|^anycast`)

// number is one that the kernel chose: an interface's, at the beginning of a line,
// a queue's or an action's.
var number = regexp.MustCompile(`^\d+: |\b[0-9a-f]+: (root|dev)|refcnt \d+|index \d+`)

// listing is what h holds but for what the kernel adds.
func listing(t *testing.T, h *netnstest.Host) []string {
	t.Helper()
	var out []string
	commands := []string{
		"nft -s list ruleset", "bridge fdb show", "ip -4 neigh show nud permanent", "ip -6 neigh show nud permanent",
		"ip -4 neigh show proxy", "ip -6 neigh show proxy",
		"tc qdisc", "ip route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule", "ip -o address",
	}
	names := regexp.MustCompile(`(?m)^`+datapath.LinkPrefix+`\w+`).FindAllString(run(t, h, "ip -br link"), -1)
	for _, name := range slices.Sorted(slices.Values(names)) {
		commands = append(commands, "tc filter show dev "+name+" ingress")
	}
	for _, command := range commands {
		var lines []string
		for line := range strings.Lines(run(t, h, command)) {
			if !byKernel.MatchString(line) {
				lines = append(lines, number.ReplaceAllString(strings.TrimSpace(line), "$1"))
			}
		}
		slices.Sort(lines)
		out = append(append(out, "# "+command), lines...)
	}
	return out
}

// A pod CIDR that is by mistake a network of the node's own must not take the
// node off that network.
func TestARouteThatTheKernelMadeIsNotReplaced(t *testing.T) {
	t.Parallel()
	node, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(node, "eth0", far, "eth0")
	node.Address("eth0", "192.168.100.1/24")
	before := node.Run("ip", "route")
	mistaken := datapath.State{{Routes: []route.Route{{Dst: netip.MustParsePrefix("192.168.100.0/24")}, {Dst: netip.MustParsePrefix("10.244.1.0/24")}}}}
	node.Do(func() error {
		have, err := datapath.Read(mistaken)
		if err != nil {
			return err
		}
		if err := datapath.Apply(datapath.Diff(have, mistaken)); err == nil || !strings.Contains(err.Error(), "192.168.100.0/24") {
			t.Errorf("the mistake is not told: %v", err)
		}
		return nil
	})
	if after := node.Run("ip", "route"); !strings.Contains(after, strings.TrimSpace(before)) || !strings.Contains(after, "unreachable 10.244.1.0/24") {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}

// Packets that are larger than the other end takes vanish without a word, so
// both ends of a wire follow the MTU of the pod network.
func TestBothEndsOfAWireFollowTheMTU(t *testing.T) {
	t.Parallel()
	node, pod := netnstest.New(t), netnstest.New(t)
	apply(node, wholeNode(pod.Path))
	for _, mtu := range []int{1300, 8950} {
		want := wholeNode(pod.Path)
		want[0].Links[0].MTU = mtu
		apply(node, want)
		if link := pod.Run("ip", "link", "show", "eth0"); !strings.Contains(link, fmt.Sprintf("mtu %d ", mtu)) {
			t.Errorf("want %d:\n%s", mtu, link)
		}
		if left := diff(node, want); !left.Empty() {
			t.Errorf("still to do:\n%s", left)
		}
	}
}

// Offload is switched off and on again in place: what hangs on the device stays.
func TestOffloadChangesInPlace(t *testing.T) {
	t.Parallel()
	node, pod := netnstest.New(t), netnstest.New(t)
	off, on := wholeNode(pod.Path), wholeNode(pod.Path)
	on[0].Links[1].NoTXChecksumOffload = false
	apply(node, on)
	for _, step := range []struct {
		state   datapath.State
		changes string
	}{
		{off, "ethtool -K fl-vxlan tx-checksum-ip-generic off\n"},
		{off, ""},
		{on, "ethtool -K fl-vxlan tx-checksum-ip-generic on\n"},
	} {
		if got := diff(node, step.state).String(); got != step.changes {
			t.Errorf("changes:\n%swant:\n%s", got, step.changes)
		}
		apply(node, step.state)
	}
}
