package agent

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

const overlayPort = "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {overlay: {port: 61000}}\n"

// A pod that asks for a port of Fairlead's own is refused, by a sentence that says
// whose it is. One that has the port already loses it when it becomes Fairlead's.
func TestFairleadsOwnPortsAreNoPods(t *testing.T) {
	n := newNode(t, nodes)
	n.metricsAt = netip.MustParseAddrPort("127.0.0.1:9468")
	n.start(t)
	ask := func(id string, p world.HostPort) (int, string) {
		return n.post(t, "add", cni.Request{Namespace: "default", Pod: id, ContainerID: id, Interface: "eth0", Netns: netnstest.New(t).Path, HostPorts: []world.HostPort{p}})
	}
	for _, tt := range []struct {
		port world.HostPort
		want string
	}{
		{world.HostPort{Port: 4789, Protocol: unix.IPPROTO_UDP, PodPort: 1}, "host port 4789/udp is Fairlead's own: the overlay between nodes"},
		{world.HostPort{Address: netip.MustParseAddr("192.168.100.1"), Port: 4789, Protocol: unix.IPPROTO_UDP, PodPort: 1}, "host port 192.168.100.1:4789/udp is Fairlead's own"},
		{world.HostPort{Port: 9468, Protocol: unix.IPPROTO_TCP, PodPort: 1}, "host port 9468/tcp is Fairlead's own: the agent's metrics and health"},
	} {
		if code, body := ask("thief", tt.port); code != http.StatusUnprocessableEntity || !strings.Contains(body, tt.want) || !strings.Contains(body, "choose another port") {
			t.Errorf("%s: %d %s", tt.port, code, body)
		}
	}
	if left := n.book.Attachments().List; len(left) != 0 {
		t.Errorf("of pods that were refused there are %d", len(left))
	}
	for id, p := range map[string]world.HostPort{
		"tcp":   {Port: 4789, Protocol: unix.IPPROTO_TCP, PodPort: 1},
		"metal": {Address: netip.MustParseAddr("192.168.100.1"), Port: 9468, Protocol: unix.IPPROTO_TCP, PodPort: 1},
		"early": {Port: 61000, Protocol: unix.IPPROTO_UDP, PodPort: 9999},
	} {
		if code, body := ask(id, p); code != http.StatusOK {
			t.Errorf("%s: %d %s", id, code, body)
		}
	}
	led := func() bool {
		return strings.Contains(n.host.Run("nft", "-n", "list", "map", "inet", "fairlead-hostport", "anywhere4"), "17 . 61000 :")
	}
	if !led() {
		t.Fatal("61000/udp does not lead to its pod")
	}
	n.write(t, "config.yaml", overlayPort)
	s, err := n.Sync(t.Context())
	must(t, err)
	if led() || !s.Ready {
		t.Errorf("61000/udp is the overlay's, and leads to a pod: %v; ready: %v %s", led(), s.Ready, s.Reason)
	}
	if !slices.ContainsFunc(s.Problems, func(p world.Problem) bool {
		return p.Object == "Pod default/early" && strings.Contains(p.Reason, "61000/udp is Fairlead's own")
	}) {
		t.Errorf("problems: %v", s.Problems)
	}
}

// A mapping of NodePortLocal gives way where the overlay moves to its port: the
// socket that holds the port does not keep the overlay's from being there.
func TestTheOverlayGetsThePortOfAMapping(t *testing.T) {
	n := newNode(t, nodes)
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), service("a", "a", "9000", "UDP")))
	n.mustTurn(t)
	n.expect(t, state{"a", "61000>9000/udp", "17 . 61000 : 10.244.1.9 . 9000", "61000/udp"})
	n.write(t, "config.yaml", overlayPort)
	for range 2 { // the socket is given back when the rules have gone
		n.host.Do(func() error { _ = n.turn(); return nil })
	}
	if s := n.snapshot.Load(); !s.Ready {
		t.Fatalf("the node is not ready: %s", s.Reason)
	}
	if told, mapped := ports(n.toldOf(t, "a")), n.mapped(t); told != "61001>9000/udp" || mapped != "17 . 61001 : 10.244.1.9 . 9000" {
		t.Errorf("told is %q, mapped are %q", told, mapped)
	}
	if link := n.host.Run("ip", "-d", "link", "show", "fl-vxlan"); !strings.Contains(link, "dstport 61000") {
		t.Errorf("the overlay is %s", link)
	}
}
