package lab_test

import (
	"fmt"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// A rule of routing for the address of a second uplink is followed when it comes and when
// it goes, also where somebody takes ours away: ports of the node that lead to pods are
// answered by that uplink.
func TestAnswersFollowRulesOfRouting(t *testing.T) {
	l := newLab(t, "uplink")
	l.mustWith("{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 1}", "up", "-f", "/dev/stdin")
	node := l.status().Nodes[0].Netns
	s := scene{testLab: l, netns: map[string]string{"n1": node, "router": netns.Path(strings.TrimSuffix(node[strings.LastIndex(node, "/")+1:], "node-n1") + "net")}}
	s.on(t, "router", "ip link add second type veth peer name eth1 netns "+node+`
		ip link set second up; ip address add 203.0.113.254/24 dev second
		nft 'table inet provider { chain arriving { type filter hook prerouting priority -310; iifname underlay0 ip saddr 203.0.113.0/24 drop; }; }'`)
	s.on(t, "n1", `ip link set eth1 up; ip address add 203.0.113.1/24 dev eth1
		ip route add default via 203.0.113.254 dev eth1 table 100`)
	l.mustWith(strings.ReplaceAll(twoMappings, "ASKED", "true"), "apply", "-f", "-")
	var port int
	eventually(t, "the pod is told of a port", func() bool {
		_, after, _ := strings.Cut(l.getPod("a").Annotations[world.NodePortLocalPorts], `"nodePort":`)
		n, _ := fmt.Sscan(after, &port)
		return n == 1
	})
	asked := func() bool {
		r := l.run("exec", "host/web", "--", "fairlead", "lab", "ask", "--timeout=500ms", "tcp", fmt.Sprintf("203.0.113.1:%d", port))
		return strings.HasPrefix(r.stdout, "198.51.100.10:")
	}
	if asked() {
		t.Error("it is answered by the second uplink without a rule")
	}
	s.on(t, "n1", "ip rule add priority 20000 from 203.0.113.1 lookup 100")
	eventually(t, "the second uplink answers", asked)
	s.on(t, "n1", "ip rule flush protocol 157")
	eventually(t, "it answers again", asked)
	s.on(t, "n1", "ip rule del from 203.0.113.1")
	eventually(t, "nothing of it is left", func() bool {
		left := s.on(t, "n1", "ip rule; nft list ruleset")
		return !strings.Contains(left, "lookup 100") && !strings.Contains(left, "@uplink")
	})
}
