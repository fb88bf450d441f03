package lab_test

import (
	"fmt"
	"strings"
	"testing"
)

// twoNetworks are n1 and n2 on one network, and n3 behind a router.
const twoNetworks = `
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: [{name: n1}, {name: n2}, {name: n3, underlay: east}]
underlays:
- {name: default, cidrs: [192.168.100.0/24, "fd00:100::/64"]}
- {name: east, cidrs: [192.168.101.0/24, "fd00:101::/64"]}
hosts: []
`

// The mode of a cluster is changed node by node, there and back, and no packet
// is lost on the way: not while nodes differ, and not while one changes.
func TestModesChangeNodeByNode(t *testing.T) {
	s := newScene(t, "modes", strings.ReplaceAll(twoNetworks, ", {name: n3, underlay: east}", ""))
	var probes []*probe
	for _, ip := range s.pod("b").PodIPs {
		probes = append(probes, s.probe(t, "a", "b", ip))
	}
	now := map[string]string{"n1": "fl-vxlan", "n2": "fl-vxlan"}
	for i, mode := range []string{"direct", "hybrid", "vxlan", "direct", "vxlan"} {
		if i == 1 {
			s.stream(t) // its segments are as large as they get, and must shrink
		}
		for _, node := range []string{"n2", "n1", "default"} {
			s.configure(node, "{mode: "+mode+"}")
			if node == "default" {
				s.unconfigure("n1", "n2")
			} else if now[node] = "eth0"; mode == "vxlan" {
				now[node] = "fl-vxlan"
			}
			for node, peer := range map[string]string{"n1": "2", "n2": "1"} {
				for _, show := range []string{"ip route show 10.244." + peer + ".0/24", "ip -6 route show fd00:10:244:" + peer + "::/64"} {
					if have := s.on(t, node, show); !strings.Contains(have, "dev "+now[node]+" ") {
						t.Errorf("%s in mode %s: on %s, %s is %q", node, mode, node, show, have)
					}
				}
			}
			s.flow(t)
		}
	}
	for _, p := range probes {
		p.end(t)
	}
	s.end(t)
}

// Hybrid reaches everybody, each as it can be; direct says whom it does not reach.
func TestHybridCrossesRouters(t *testing.T) {
	l := newLab(t, "hybrid")
	l.mustWith(twoNetworks+"agent: {overlay: {mode: hybrid}}\n", "up", "-f", "/dev/stdin")
	l.mustWith(twoPods+"---\n"+strings.NewReplacer("name: b", "name: far", "n2", "n3").Replace(twoPods[strings.Index(twoPods, "---")+4:]), "apply", "-f", "-")
	for _, to := range []string{"b", "far"} {
		for i, brackets := range []string{"%s:8080", "[%s]:8080"} {
			seen := l.asked("pod/default/a", "tcp", fmt.Sprintf(brackets, l.pod(to).PodIPs[i]))
			if !strings.HasPrefix(strings.Trim(seen, "["), l.pod("a").PodIPs[i]) {
				t.Errorf("%s sees a as %s", to, seen)
			}
		}
	}
	// The node itself is answered the way it asks.
	for to, as := range map[string]string{"b": "192.168.100.1:", "far": "10.244.1.1:"} {
		if seen := l.asked("node/n1", "tcp", l.pod(to).PodIPs[0]+":8080"); !strings.HasPrefix(seen, as) {
			t.Errorf("%s sees n1 as %s, want %s", to, seen, as)
		}
	}
	routes := l.must("exec", "node/n1", "--", "ip", "route", "show", "proto", "157")
	for _, want := range []string{"10.244.2.0/24 via 192.168.100.2 dev eth0", "10.244.3.0/24 via 10.244.3.1 dev fl-vxlan"} {
		if !strings.Contains(routes, want) {
			t.Errorf("n1 lacks %q:\n%s", want, routes)
		}
	}
	r := l.runWith("{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {overlay: {mode: direct}}}", "apply", "-f", "-")
	problems := l.must("exec", "node/n1", "--", "fairlead", "get", "problems")
	if !strings.Contains(problems, "192.168.101.3 is on no network of eth0 of n1") || !strings.Contains(problems, "hybrid") {
		t.Errorf("exit code %d; n1 sees the problems\n%s", r.code, problems)
	}
}

// Nodes that choose another address tell their peers, one node after the other,
// and traffic goes on.
func TestAChosenAddressIsLearnt(t *testing.T) {
	s := newScene(t, "chosen", "{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 2, hosts: []}")
	for _, node := range []string{"n1", "n2"} {
		s.on(t, node, "ip address add 10.9.0."+node[1:]+"/24 dev eth0")
	}
	before := s.held(t, "n1")
	for _, choice := range []string{"10.9.0.0/24", "eth*"} { // of an interface, the Node's own address
		for _, node := range []string{"n1", "n2"} {
			s.configure(node, fmt.Sprintf("{interface: %q}", choice))
			s.flow(t)
		}
		end := map[string]string{"10.9.0.0/24": "10.9.0.", "eth*": "192.168.100."}[choice]
		for node, peer := range map[string]string{"n1": "2", "n2": "1"} {
			s.shows(t, node, "local "+end+node[1:]+" ")
			s.shows(t, node, "dst "+end+peer+" ")
			if report := s.must("get", "fairleadnode", node, "-o", "json"); !strings.Contains(report, fmt.Sprintf("%q", end+node[1:])) {
				t.Errorf("%s reports %s", node, report)
			}
		}
	}
	s.configure("n2", "{interface: 10.9.0.0/24}")
	s.shows(t, "n1", "dst 10.9.0.2 ")
	s.on(t, "n2", "ip address del 10.9.0.2/24 dev eth0")
	s.shows(t, "n1", "dst 192.168.100.2 ") // it is told that nothing is as chosen, and what there is instead
	become(t, "n2 sees it", func() bool { return strings.Contains(s.problems("n2"), "overlay.interface") })
	s.unconfigure("n1", "n2")
	become(t, "as before", func() bool { return s.held(t, "n1") == before })
	s.flow(t)
	s.end(t)
}

// In mode none nothing of the pod network is left, and nothing of others' is
// touched; back in another mode, pods have their wires again.
func TestModeNoneLeavesTheNodeToOthers(t *testing.T) {
	l := newLab(t, "none")
	l.must("up")
	l.mustWith(twoPods, "apply", "-f", "-")
	node := func(script string) string {
		t.Helper()
		return l.must("exec", "node/n1", "--", "sh", "-ec", script)
	}
	foreign := "ip -o link show dev other; ip address show dev other; ip route show 10.99.0.0/16; ip neigh show dev other"
	node("ip link add other type bridge; ip link set other up; ip address add 10.98.0.1/24 dev other; ip route add 10.99.0.0/16 via 10.98.0.2; ip neigh add 10.98.0.2 lladdr 02:00:00:00:00:01 dev other nud permanent")
	before := node(foreign)
	configure := func(mode string) {
		l.mustWith("{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {overlay: {mode: "+mode+"}}}", "apply", "-f", "-")
	}
	configure("none")
	if left := node("ip -o link | grep fl- || true; ip route show table all proto 157; ip -6 route show table all proto 157; ip rule | grep 157 || true; ip -6 rule | grep 157 || true"); left != "" {
		t.Errorf("left in mode none:\n%s", left)
	}
	if after := node(foreign); after != before {
		t.Errorf("others' had\n%s\nand have\n%s", before, after)
	}
	if checks := l.run("exec", "node/n1", "--", "fairlead", "doctor", "-o", "json").stdout; strings.Contains(checks, "overlay-") || !strings.Contains(checks, "kernel-state") {
		t.Errorf("the doctor asks\n%s", checks)
	}
	configure("hybrid")
	l.asked("pod/default/a", "tcp", l.pod("b").PodIPs[0]+":8080")
}
