package lab_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ours shows all that is Fairlead's on a node, whatever order the kernel lists
// it in.
const ours = `
ip -d -o link show dev fl-vxlan; ip -o address show dev fl-vxlan scope global
ip route show table all proto 157; ip -6 route show table all proto 157; ip rule show; ip -6 rule show
ip neigh show dev fl-vxlan nud permanent; bridge fdb show dev fl-vxlan
ip -o link show type veth | grep fl-
cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv4/conf/fl-vxlan/rp_filter
nft -s list tables | grep fairlead-`

// noise differs where nothing of ours does: indexes, and what the kernel notices
// some time after it happened.
var noise = regexp.MustCompile(`(?m)^\d+: |@if\d+|NO-CARRIER,|,LOWER_UP| state \S+|^(33:33|01:00:5e):.*$`)

// held is what a node holds of ours; nothing while it cannot be listed.
func (s *scene) held(t *testing.T, node string) string {
	t.Helper()
	lines := strings.Split(noise.ReplaceAllString(s.on(t, node, "{ "+ours+"\n} 2>/dev/null || true"), ""), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// accidents are what somebody else may do to a node, in each mode of the overlay:
// all of it is repaired, and no connection ends.
var accidents = []struct{ name, script string }{
	{"rules flushed", "nft flush ruleset"},
	{"tunnel deleted", "ip link del fl-vxlan"},
	{"tunnel made by hand with other parameters", "until ip link del fl-vxlan && ip link add fl-vxlan type vxlan id 77 dstport 8472 local 192.168.100.1; do :; done"},
	{"tunnel down", "ip link set fl-vxlan down"},
	{"tunnel's addresses removed", "ip address flush dev fl-vxlan"},
	{"tunnel's MTU changed", "ip link set fl-vxlan mtu 1300"},
	{"routes removed", "ip route flush proto 157; ip -6 route flush proto 157"},
	{"routes led elsewhere", "ip route replace 10.244.2.0/24 dev lo proto 157; ip -6 route replace fd00:10:244:2::/64 dev lo proto 157"},
	{"rules of routing removed", "ip rule flush protocol 157; ip -6 rule flush protocol 157"},
	{"rules of routing led elsewhere", "ip rule del priority 157 || true; ip rule add priority 157 from 10.244.1.0/24 lookup main protocol 157"},
	{"neighbours and forwarding entries removed", "ip neigh flush dev fl-vxlan nud permanent; bridge fdb show dev fl-vxlan | while read mac rest; do bridge fdb del $mac dev fl-vxlan $rest; done"},
	{"forwarding off", "echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding"},
	{"reverse-path filter strict", "echo 1 >/proc/sys/net/ipv4/conf/fl-vxlan/rp_filter"},
	{"wires deleted", "ip -o link show type veth | grep -o 'fl-[0-9a-f]*' | while read wire; do ip link del $wire; done"},
}

func TestAccidentsAreRepairedUnderTraffic(t *testing.T) {
	s := newScene(t, "accident", "{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 2, hosts: []}")
	for _, mode := range []string{"vxlan", "direct"} {
		s.configure("default", "{mode: "+mode+"}")
		before := s.held(t, "n1")
		for _, a := range accidents {
			t.Run(mode+"/"+a.name, func(t *testing.T) {
				s.on(t, "n1", a.script)
				var now string
				defer func() {
					if t.Failed() {
						t.Logf("before:\n%s\nnow:\n%s", before, now)
					}
				}()
				become(t, "repaired", func() bool { now = s.held(t, "n1"); return now == before })
				s.flow(t)
			})
		}
	}
	s.end(t)
}
