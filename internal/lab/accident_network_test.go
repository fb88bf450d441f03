package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath/ethtool"
	"fairlead.dev/fairlead/internal/netns"
)

// accidentsOutside happen to what the overlay stands on: interfaces, addresses,
// Nodes. They are followed, or told; s is as before when one ends.
var accidentsOutside = []struct {
	name  string
	modes []string
	play  func(t *testing.T, s *scene, mode string)
}{
	{"the MTU of interfaces changes", []string{"vxlan", "direct"}, otherMTU},
	{"the way to a peer takes less", []string{"vxlan"}, narrowWay},
	{"a node gets another address", []string{"vxlan", "direct"}, otherAddress},
	{"an address goes from its interface", []string{"vxlan"}, addressNowhere},
	{"an interface is renamed", []string{"vxlan", "direct"}, renamed},
	{"an interface goes down and comes back", []string{"vxlan", "direct"}, downAndUp},
	{"a wire is pulled and plugged in again", []string{"direct"}, unplugged},
	{"the default route moves", []string{"direct"}, otherDefault},
	{"a peer is made anew with another address", []string{"vxlan", "direct"}, anotherPeer},
	{"a peer's pod CIDR changes", []string{"vxlan", "direct"}, otherCIDR},
	{"a peer goes while no agent runs", []string{"vxlan"}, goneMeanwhile},
	{"two peers have one pod CIDR", []string{"vxlan"}, sharedCIDR},
	{"two peers have one address", []string{"vxlan"}, sharedAddress},
	{"the tunnel's checksum offload is switched", []string{"vxlan"}, offload},
}

func TestTheOverlayFollowsWhatItStandsOn(t *testing.T) {
	s := newScene(t, "outside", "{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 3, hosts: []}")
	for _, node := range []string{"n1", "n2"} {
		// What a network manager sees to.
		s.on(t, node, "echo 1 >/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down; echo 1 >/proc/sys/net/ipv4/conf/eth0/promote_secondaries")
	}
	for _, mode := range []string{"vxlan", "direct"} {
		s.configure("default", "{mode: "+mode+"}")
		for _, a := range accidentsOutside {
			if strings.Contains(strings.Join(a.modes, " "), mode) {
				t.Run(mode+"/"+a.name, func(t *testing.T) {
					before := s.held(t, "n1")
					a.play(t, s, mode)
					become(t, "as before", func() bool { return s.held(t, "n1") == before })
					s.flow(t)
				})
			}
		}
	}
	s.end(t)
}

// shows waits until what a node holds of ours has some text in it.
func (s *scene) shows(t *testing.T, node, has string) {
	t.Helper()
	become(t, node+" has "+has, func() bool { return strings.Contains(s.held(t, node), has) })
}

// sees waits until the agent of n1 sees a problem, or sees it no more.
func (s *scene) sees(t *testing.T, problem string) {
	t.Helper()
	become(t, "n1 sees that "+problem, func() bool { return strings.Contains(s.problems("n1"), problem) })
}

func (s *scene) seesNoMore(t *testing.T, problem string) {
	t.Helper()
	become(t, "n1 does not see any more that "+problem, func() bool { return !strings.Contains(s.problems("n1"), problem) })
}

// Pods get what the narrowest way to a peer takes.
func narrowWay(t *testing.T, s *scene, _ string) {
	for _, step := range [][2]string{{"ip route add 192.168.100.2/32 dev eth0 mtu 1400", "1350"}, {"ip route del 192.168.100.2/32", "1450"}} {
		s.on(t, "n1", step[0])
		become(t, "pods of n1 have an MTU of "+step[1], func() bool { return strings.Contains(s.on(t, "a", "ip link show eth0"), "mtu "+step[1]) })
		s.flow(t)
	}
}

func otherMTU(t *testing.T, s *scene, mode string) {
	for _, mtu := range [][2]string{{"1400", "1350"}, {"1500", "1450"}} {
		for _, node := range []string{"n1", "n2"} {
			s.on(t, node, "ip link set eth0 mtu "+mtu[0])
		}
		inPods := map[string]string{"vxlan": mtu[1], "direct": mtu[0]}[mode]
		become(t, "pods have an MTU of "+inPods, func() bool {
			return strings.Contains(s.on(t, "a", "ip link show eth0")+s.on(t, "b", "ip link show eth0"), "mtu "+inPods)
		})
		s.flow(t)
	}
}

const (
	moveAddress = "ip address add 192.168.100.22/24 dev eth0; ip address del 192.168.100.2/24 dev eth0"
	moveBack    = "ip address add 192.168.100.2/24 dev eth0; ip address del 192.168.100.22/24 dev eth0"
)

// way is what n1 holds where it reaches n2 at an address.
func way(mode, address string) string {
	if mode == "direct" {
		return "10.244.2.0/24 via " + address + " dev eth0"
	}
	return "dst " + address + " "
}

func otherAddress(t *testing.T, s *scene, mode string) {
	s.on(t, "n2", moveAddress)
	back := s.rewrite(t, "node.n2", "192.168.100.2\n", "192.168.100.22\n")
	s.shows(t, "n1", way(mode, "192.168.100.22"))
	s.shows(t, "n2", "local 192.168.100.22 ")
	s.flow(t)
	s.on(t, "n2", moveBack)
	back()
	s.shows(t, "n2", "local 192.168.100.2 ")
}

// Nothing can go on without the address; it does as soon as it is back.
func addressNowhere(t *testing.T, s *scene, _ string) {
	s.on(t, "n1", "ip address add 192.168.100.11/24 dev eth0; ip address del 192.168.100.1/24 dev eth0")
	s.sees(t, "192.168.100.1 is on no interface")
	become(t, "n1 reports it", func() bool {
		return strings.Contains(s.must("get", "fairleadnode", "n1", "-o", "json"), "on no interface")
	})
	s.on(t, "n1", "ip address add 192.168.100.1/24 dev eth0; ip address del 192.168.100.11/24 dev eth0")
	s.seesNoMore(t, "192.168.100.1 is on no interface")
}

func renamed(t *testing.T, s *scene, mode string) {
	before := s.held(t, "n1")
	rename := func(from, to string) {
		s.on(t, "n1", "ip link set "+from+" down; ip link set "+from+" name "+to+"; ip link set "+to+" up")
	}
	rename("eth0", "uplink7")
	become(t, "routes lead by the interface's new name", func() bool {
		return s.held(t, "n1") == strings.ReplaceAll(before, "dev eth0 ", "dev uplink7 ")
	})
	if mode == "direct" && !strings.Contains(before, "dev eth0 ") {
		t.Error("no route led by eth0")
	}
	s.flow(t)
	rename("uplink7", "eth0")
}

func downAndUp(t *testing.T, s *scene, _ string) {
	s.on(t, "n1", "ip link set eth0 down")
	s.sees(t, "eth0, which is down")
	s.on(t, "n1", "ip link set eth0 up")
	s.seesNoMore(t, "eth0, which is down")
}

func unplugged(t *testing.T, s *scene, _ string) {
	s.must("link", "n1", "down")
	become(t, "the carrier is gone", func() bool { return strings.Contains(s.on(t, "n1", "ip link show eth0"), "NO-CARRIER") })
	s.must("link", "n1", "up")
}

func otherDefault(t *testing.T, s *scene, _ string) {
	s.on(t, "n1", "ip route replace default via 192.168.100.254")
	s.on(t, "n1", "ip route replace default via 192.168.100.3")
	s.flow(t)
	s.on(t, "n1", "ip route replace default via 192.168.100.254")
}

func anotherPeer(t *testing.T, s *scene, mode string) {
	path := filepath.Join(s.dir, s.name, "objects", "node.n2.yaml")
	object, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(content string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		become(t, "n1 knows no n2", func() bool { return !strings.Contains(s.held(t, "n1"), "10.244.2.0/24") })
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.on(t, "n2", moveAddress)
	replace(strings.ReplaceAll(string(object), "192.168.100.2\n", "192.168.100.22\n"))
	s.shows(t, "n1", way(mode, "192.168.100.22"))
	s.flow(t)
	s.on(t, "n2", moveBack)
	replace(string(object))
	s.shows(t, "n2", "local 192.168.100.2 ")
}

func otherCIDR(t *testing.T, s *scene, _ string) {
	back := s.rewrite(t, "node.n3", "10.244.3.0/24", "10.244.33.0/24")
	s.shows(t, "n1", "10.244.33.0/24 via ")
	if held := s.held(t, "n1"); strings.Contains(held, "10.244.3.0/24") {
		t.Errorf("what led to the old one is left:\n%s", held)
	}
	back()
}

func goneMeanwhile(t *testing.T, s *scene, _ string) {
	s.must("agent", "kill", "n1")
	back := s.rewrite(t, "node.n3", "kind: Node", "kind: Namespace")
	s.must("agent", "start", "n1")
	become(t, "nothing leads to it any more", func() bool { return !strings.Contains(s.held(t, "n1"), "10.244.3.") })
	back()
}

// Of two the first by name keeps the CIDR.
func sharedCIDR(t *testing.T, s *scene, _ string) {
	back := s.rewrite(t, "node.n3", "10.244.3.0/24", "10.244.2.0/24")
	s.sees(t, "10.244.2.0/24 overlaps 10.244.2.0/24 of Node n2, which keeps it")
	s.flow(t)
	back()
	s.seesNoMore(t, "which keeps it")
}

func sharedAddress(t *testing.T, s *scene, _ string) {
	back := s.rewrite(t, "node.n3", "192.168.100.3\n", "192.168.100.2\n")
	s.sees(t, "192.168.100.2 is an address of Node n2 too")
	s.flow(t)
	back()
	s.seesNoMore(t, "is an address of Node n2 too")
}

// The setting is made in place, kept against others, and taken back.
func offload(t *testing.T, s *scene, _ string) {
	is := func(want ethtool.State) {
		t.Helper()
		become(t, "checksum offload is "+string(want), func() bool {
			var now ethtool.State
			err := netns.Do(s.netns["n1"], func() (err error) { now, err = ethtool.Read("fl-vxlan"); return err })
			return err == nil && now == want
		})
	}
	index := s.on(t, "n1", "ip -o link show fl-vxlan | cut -d: -f1")
	const config = "{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: n1}, spec: {disableTXChecksumOffload: true}}"
	s.mustWith(config, "apply", "-f", "-")
	is(ethtool.Off)
	s.flow(t)
	err := netns.Do(s.netns["n1"], func() error { return ethtool.Apply(ethtool.Setting{Link: "fl-vxlan", State: ethtool.On}) })
	if err != nil {
		t.Fatal(err)
	}
	is(ethtool.Off)
	s.mustWith(config, "delete", "-f", "-")
	is(ethtool.On)
	if now := s.on(t, "n1", "ip -o link show fl-vxlan | cut -d: -f1"); now != index {
		t.Errorf("the device was made anew: %s is %s", index, now)
	}
}
