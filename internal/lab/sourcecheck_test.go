package lab_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// asPod asks what pod a asks for, and wants to be seen as itself.
func (l testLab) asPod(t *testing.T, protocol, to string) {
	t.Helper()
	at := netip.MustParseAddrPort(to)
	as := l.pod("a").PodIPs[0]
	if at.Addr().Is6() {
		as = l.pod("a").PodIPs[1]
	}
	if seen := l.asked("pod/default/a", protocol, to); netip.MustParseAddrPort(seen).Addr().String() != as {
		t.Errorf("%s %s sees %s, want %s", protocol, to, seen, as)
	}
}

// reachesNode wants pod a to be seen as itself on n2, by each of its addresses.
func (l testLab) reachesNode(t *testing.T) {
	t.Helper()
	for _, node := range []string{"192.168.100.2", "[fd00:100::2]"} {
		for _, port := range []string{"tcp :9100", "udp :9100", "tcp :9200"} {
			protocol, port, _ := strings.Cut(port, " ")
			l.asPod(t, protocol, node+port)
		}
	}
}

// doctor is what the doctor of n1 says, with single spaces.
func (l testLab) doctor(args ...string) string {
	said := l.run(append([]string{"exec", "node/n1", "--", "fairlead", "doctor"}, args...)...).stdout
	return regexp.MustCompile(" +").ReplaceAllString(said, " ")
}

// Where the network between the nodes drops what has not a node's address, and where
// it does not, pods reach other nodes' own addresses, and what listens there sees
// theirs: whatever the modes were before, and also while no agent runs.
func TestPodsReachNodesBehindASourceCheck(t *testing.T) {
	for _, check := range []bool{true, false} {
		t.Run(fmt.Sprintf("sourceCheck %v", check), func(t *testing.T) {
			l := newLab(t, fmt.Sprintf("check-%v", check))
			l.mustWith(fmt.Sprintf(`
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: 2
hosts: []
underlays: [{name: default, cidrs: [192.168.100.0/24, "fd00:100::/64"], sourceCheck: %v}]
`, check), "up", "-f", "/dev/stdin")
			l.mustWith(strings.Replace(twoPods, "nodeName: n2\n  containers: [{name: c,", "nodeName: n2\n  containers: [{name: c, ports: [{containerPort: 8080, hostPort: 9200}],", 1)+`
---
apiVersion: v1
kind: Pod
metadata: {name: kubelet}
spec:
  nodeName: n2
  hostNetwork: true
  containers: [{name: c, command: [fairlead, lab, echo, "--tcp=:9100", "--udp=:9100"]}]
`, "apply", "-f", "-")
			l.reachesNode(t)
			says := map[bool]string{true: "ok overlay-source-check packets with pods' addresses are dropped on the way to 192.168.100.2 (n2) and fd00:100::2 (n2)", false: "ok overlay-source-check packets with pods' addresses pass to the nodes, on 2 of 2 paths"}
			if said := l.doctor("--probe"); !strings.Contains(said, says[check]) {
				t.Errorf("want %q of\n%s", says[check], said)
			}
			if said := l.doctor(); !strings.Contains(said, "overlay-source-check between nodes pods' packets are encapsulated") {
				t.Errorf("unasked, the doctor says\n%s", said)
			}
			l.must("agent", "stop", "n1")
			l.reachesNode(t)
			l.must("agent", "start", "n1")
			for _, mode := range []string{"hybrid", "direct", "vxlan"} {
				l.mustWith("{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {overlay: {mode: "+mode+"}}}", "apply", "-f", "-")
				if mode == "vxlan" || !check {
					l.reachesNode(t)
					continue
				}
				if said := l.doctor(); !strings.Contains(said, "FAIL overlay-source-check") || !strings.Contains(said, "overlay.mode is "+mode+": set it to vxlan") {
					t.Errorf("in mode %s the doctor says\n%s", mode, said)
				}
				if r := l.run("exec", "pod/default/a", "--", "fairlead", "lab", "ask", "--timeout=500ms", "tcp", "192.168.100.2:9100"); r.code == 0 {
					t.Errorf("in mode %s the source check passes %s", mode, r.stdout)
				}
			}
		})
	}
}
