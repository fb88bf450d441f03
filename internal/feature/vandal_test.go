package feature_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// vandalism is what somebody may do to what is ours, where it is there.
var vandalism = []string{
	"ip link del fl-vxlan",
	"ip link set fl-vxlan down",
	"ip link set fl-vxlan mtu 1299",
	"ip link set fl-vxlan address 02:00:00:00:00:77",
	"ip link del fl-vxlan; ip link add fl-vxlan type vxlan id 9 dstport 8472 local 192.168.100.1",
	"ip link add fl-ffffffffffff type veth peer name gone; ip link set fl-ffffffffffff up",
	"ip -o link show type veth | grep -o 'fl-[0-9a-f]*' | shuf -n 1 | xargs ip link del",
	"ip address flush dev fl-vxlan",
	"ip address add 10.77.0.1/24 dev fl-vxlan",
	"ip route flush proto 157",
	"ip -6 route flush proto 157",
	"ip route show proto 157 | shuf -n 1 | xargs ip route del",
	"ip -6 route show proto 157 | shuf -n 1 | xargs ip -6 route del",
	"ip route add 10.99.0.0/16 dev lo proto 157",
	"ip rule flush protocol 157; ip -6 rule flush protocol 157",
	"ip rule add priority 98 from 10.9.0.0/16 lookup main protocol 157; ip -6 rule add priority 98 from fd09::/64 iif lo prohibit protocol 157",
	"ip route flush table 157157; ip -6 route flush table 157157",
	"ip route add 10.98.0.1 dev lo table 157157 proto 157",
	"ip neigh flush dev fl-vxlan nud permanent",
	"ip neigh add 10.244.99.1 lladdr 02:00:00:00:00:99 dev fl-vxlan nud permanent",
	"bridge fdb show dev fl-vxlan | shuf -n 1 | while read mac rest; do bridge fdb del $mac dev fl-vxlan $rest; done",
	"bridge fdb append 00:00:00:00:00:00 dev fl-vxlan dst 192.168.100.99 self permanent",
	"nft flush ruleset",
	"nft delete table inet fairlead-snat",
	"nft flush table inet fairlead-snat",
	"nft add rule inet fairlead-snat postrouting accept",
	"nft add table inet fairlead-old",
	"nft flush map inet fairlead-nodeportlocal ports4",
	"nft delete table inet fairlead-nodeportlocal",
	"nft add element inet fairlead-nodeportlocal ports4 '{ 6 . 61003 : 10.244.1.99 . 1 }'",
	"nft flush set inet fairlead-nodeportlocal udp4; nft flush chain inet fairlead-nodeportlocal input",
	"echo 0 >/proc/sys/net/ipv4/ip_forward",
	"echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
	"echo 1 >/proc/sys/net/ipv4/conf/fl-vxlan/rp_filter",
	"ip link set eth0 down; ip link set eth0 up; ip -6 route flush dev eth0 proto 157",
	"ip address del 10.9.1.1/24 dev eth1; ip address add 10.9.1.1/24 dev eth1",
}

// Whatever objects become and whatever others do meanwhile, a node comes to hold
// what a new agent on a new node would make of the same objects.
func TestHistoriesAmongVandalsEndAlike(t *testing.T) {
	t.Parallel()
	for _, pods := range []int{0, 3} { // a pod is on one node: with pods, no other can be compared
		t.Run(fmt.Sprintf("%d pods", pods), func(t *testing.T) {
			t.Parallel()
			host := historicalHost(t)
			var netns []string
			for range pods {
				netns = append(netns, netnstest.New(t).Path)
			}
			h, warm := newHistory(uint64(3+pods), netns), newLine()
			random := rand.New(rand.NewPCG(4, uint64(pods)))
			for i := range 40 {
				h.step()
				h.in.TCP = nil // made up: settings change only from what was really seen
				w, r := warm.run(h.in)
				if w.Node == nil {
					continue
				}
				var done []string
				for range random.IntN(4) {
					done = append(done, vandalism[random.IntN(len(vandalism))])
					vandalise(host, done[len(done)-1])
				}
				changes := diff(host, r.State)
				host.Do(func() error { return datapath.Apply(changes) })
				if left := diff(host, r.State); !left.Empty() {
					t.Fatalf("step %d: after %q and\n%sstill to do:\n%s", i, done, changes, left)
				}
				if pods == 0 && i%10 == 9 {
					fresh := historicalHost(t)
					_, cold := newLine().run(h.in)
					fresh.Do(func() error { return datapath.Apply(datapath.DiffStates(nil, cold.State)) })
					if d := cmp.Diff(held(fresh), held(host)); d != "" {
						t.Fatalf("step %d (-new node +this node):\n%s", i, d)
					}
				}
			}
		})
	}
}

// vandalise runs a script that may fail: nothing need be there.
func vandalise(h *netnstest.Host, script string) {
	_ = netns.Do(h.Path, exec.Command("sh", "-c", script).Run)
}

var numbers = regexp.MustCompile(`(?m)^\d+: |@if\d+`)

// held is all that is ours on a host, in lines, whatever their order.
func held(h *netnstest.Host) []string {
	const ours = `nft -s list ruleset
ip -d -o link show dev fl-vxlan; ip -o address show dev fl-vxlan scope global; ip -o link | grep fl-
ip route show table all proto 157; ip -6 route show table all proto 157; ip rule show; ip -6 rule show
ip neigh show nud permanent; bridge fdb show dev fl-vxlan | grep dst
true`
	lines := strings.Split(numbers.ReplaceAllString(h.Run("sh", "-c", "{ "+ours+"; } 2>/dev/null"), ""), "\n")
	slices.Sort(lines)
	return lines
}
