package agent

import (
	"strings"
	"testing"
)

// A Node that comes later takes no peer's pod CIDR, also where only the agents that
// were there know that it came later.
func TestPodCIDRsOutliveTheAgent(t *testing.T) {
	t.Parallel()
	n := newNode(t, nodes)
	n.mustTurn(t)
	n.write(t, "later.yaml", `{apiVersion: v1, kind: Node, metadata: {name: aa}, spec: {podCIDRs: [10.244.0.0/16]}, status: {addresses: [{type: InternalIP, address: 192.168.100.9}]}}`)
	for _, when := range []string{"when it comes", "after a restart"} {
		n.mustTurn(t)
		routes := n.host.Run("ip", "route", "show", "proto", "157")
		if !strings.Contains(routes, "10.244.2.0/24") || strings.Contains(routes, "10.244.0.0/16") {
			t.Errorf("%s the routes are\n%s", when, routes)
		}
		n.restart(t)
	}
}
