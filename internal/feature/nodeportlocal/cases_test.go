package nodeportlocal_test

import (
	"net/netip"
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/world"
)

// state is what is there at one turn, and what the pods are told of it.
type state struct {
	pods     []*world.Pod
	services []*world.Service
	want     string
}

func services(list ...*world.Service) []*world.Service { return list }

// one is a Service of one port.
var one = web("s", to(tcp, 80))

func retype(to string) *world.Service { return with(one, func(s *world.Service) { s.Type = to }) }

func annotated(value string) *world.Service {
	return with(one, func(s *world.Service) {
		s.Annotations = world.NewLabels(map[string]string{world.NodePortLocalEnabled: value})
	})
}

func selecting(app string) *world.Service {
	return with(one, func(s *world.Service) { s.Selector = world.NewLabels(map[string]string{"app": app}) })
}

// The cases of Antrea's controller, by the names that they have there: of Services
// that change, and of pods.
var ofServices = map[string][]state{
	"TestSvcNamespaceUpdate": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a")), services(with(one, func(s *world.Service) { s.Namespace = "other" })), "a:"},
	},
	"TestSvcTypeUpdate": {
		{pods(pod("a")), services(retype("NodePort")), ""},
		{pods(pod("a")), services(retype("LoadBalancer")), "a: 61000>80/tcp"},
		{pods(pod("a")), services(retype("ExternalName")), "a:"},
		{pods(pod("a")), services(retype("ClusterIP")), "a: 61001>80/tcp"},
		{pods(pod("a")), services(retype("NodePort")), "a:"},
	},
	"TestSvcUpdateAnnotation": {
		{pods(pod("a")), services(annotated("false")), ""},
		{pods(pod("a")), services(annotated("true")), "a: 61000>80/tcp"},
	},
	"TestSvcRemoveAnnotation": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a")), services(with(one, func(s *world.Service) { s.Annotations = world.Labels{} })), "a:"},
	},
	"TestSvcUpdateSelector": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a")), services(selecting("other")), "a:"},
		{pods(pod("a")), services(with(one, func(s *world.Service) { s.Selector = world.Labels{} })), ""},
	},
	"TestPodUpdateSelectorLabel": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a", app("other"))), services(one), "a:"},
		{pods(pod("a", app("other"))), services(one), ""},
		{pods(pod("a")), services(one), "a: 61001>80/tcp"},
	},
	"TestSvcDelete": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a")), nil, "a:"},
	},
}

var ofPods = map[string][]state{
	"TestPodDelete": {
		{pods(pod("a"), pod("b")), services(one), "a: 61000>80/tcp; b: 61001>80/tcp"},
		{pods(pod("b")), services(one), "b: 61001>80/tcp"},
	},
	"TestAddMultiPortPodSvc": {
		{pods(pod("a")), services(web("s", to(tcp, 80), to(tcp, 81))), "a: 61000>80/tcp 61001>81/tcp"},
		{pods(pod("a")), services(web("s", to(tcp, 81))), "a: 61001>81/tcp"},
	},
	"TestAddMultiPortPodSinglePortSvc": {
		{pods(pod("a", named("x", 80), named("y", 81))), services(one), "a: 61000>80/tcp"},
	},
	"TestPodAddHostPort": {
		{pods(pod("a", hosts(world.HostPort{Port: 4001, Protocol: tcp, PodPort: 80}))), services(one), "a: 4001>80/tcp"},
	},
	"TestPodAddHostPortMultiProtocol": {
		{pods(pod("a", hosts(world.HostPort{Port: 4001, Protocol: tcp, PodPort: 80}), hosts(world.HostPort{Port: 4002, Protocol: udp, PodPort: 80}))),
			services(web("s", to(tcp, 80), to(udp, 80))), "a: 4001>80/tcp 4002>80/udp"},
	},
	"TestPodAddHostPortWrongProtocol": {
		{pods(pod("a", hosts(world.HostPort{Port: 4001, Protocol: udp, PodPort: 80}))), services(one), "a: 61000>80/tcp"},
	},
	"TestTargetPortWithName": {
		{pods(pod("a", named("web", 8080)), pod("b", named("web", 9090))), services(web("s", toName("web"))), "a: 61000>8080/tcp; b: 61001>9090/tcp"},
		{pods(pod("a", named("web", 8080))), services(web("s", toName("wrong"))), "a:"},
	},
	"TestMultiplePods": {
		{pods(pod("a"), pod("b"), pod("c", app("other"))), services(one), "a: 61000>80/tcp; b: 61001>80/tcp"},
	},
	"TestPodIPRecycle": {
		{pods(pod("a", at("10.244.1.9"))), services(one), "a: 61000>80/tcp"},
		{pods(pod("a", at("10.244.1.9")), pod("b", at("10.244.1.9"))), services(one), "a: 61000>80/tcp; b: 61001>80/tcp"},
		{pods(pod("b", at("10.244.1.9"))), services(one), "b: 61001>80/tcp"}, // a's work is done
	},
	"TestMultipleProtocols": {
		{pods(pod("a")), services(web("s", to(tcp, 80)), web("u", to(udp, 80)), web("v", to(sctp, 80))), "a: 61000>80/tcp 61000>80/udp 61000>80/sctp"},
		{pods(pod("a")), services(web("u", to(udp, 80))), "a: 61000>80/udp"},
	},
	"TestMultipleServicesSameBackendPod": {
		{pods(pod("a", named("web", 80))), services(one, web("t", toName("web")), web("u", to(tcp, 81))), "a: 61000>80/tcp 61001>81/tcp"},
		{pods(pod("a", named("web", 80))), services(web("t", toName("web"))), "a: 61000>80/tcp"},
	},
	"TestPodIPReset": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a", at(), says("[]"))), services(one), "a:"},
		{pods(pod("a")), services(one), "a: 61001>80/tcp"},
	},
	"TestPodIPChange": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a", at("10.244.1.99"))), services(one), "a: 61000>80/tcp"},
	},
	"TestAnotherPodOfTheName": {
		{pods(pod("a")), services(one), "a: 61000>80/tcp"},
		{pods(pod("a", func(p *world.Pod) { p.Local.UID = "another" })), services(one), "a: 61001>80/tcp"},
	},
	"TestHostNetwork": {
		{pods(pod("a", func(p *world.Pod) { p.HostNetwork = true })), services(one), ""},
	},
	"TestPodOfAnotherNode": {
		{pods(pod("a", func(p *world.Pod) { p.Node = "n2" })), services(one), ""},
	},
}

func TestServicesThatChange(t *testing.T) { follow(t, ofServices) }
func TestPodsThatChange(t *testing.T)     { follow(t, ofPods) }

func follow(t *testing.T, cases map[string][]state) {
	t.Helper()
	for name, states := range cases {
		t.Run(name, func(t *testing.T) {
			s := newSim(nil)
			for i, now := range states {
				kept := map[string]world.Labels{} // annotations stay on the pods
				for p := range s.world.LocalPods.List.All() {
					kept[p.Name+p.Local.UID] = p.Local.Annotations
				}
				for _, p := range now.pods {
					if said := kept[p.Name+p.Local.UID]; p.Local.Annotations == (world.Labels{}) && i > 0 {
						p.Local.Annotations = said
					}
				}
				s.set(now.pods, now.services...)
				if got := s.turn(t); got != now.want {
					t.Errorf("state %d: told %q, want %q", i, got, now.want)
				}
			}
		})
	}
}

// What a hostPort has is never given out, and a hostIP is the only address.
func TestHostPortsAreNeverOurs(t *testing.T) {
	h := world.HostPort{Port: 61000, Protocol: tcp, PodPort: 80}
	s := newSim(pods(pod("a", hosts(h)), pod("b")), web("s", to(tcp, 80)))
	for range 2 { // and no restart makes it ours
		if got, want := s.turn(t), "a: 61000>80/tcp; b: 61001>80/tcp"; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		if list := nodeportlocal.Allocated.Of(s.world.Allocations).List.Slice(); len(list) != 1 || list[0].Pod.Name != "b" {
			t.Errorf("given out are %+v", list)
		}
		s.world.Allocations = &world.Parts{}
	}
	// One that comes later takes the number from who has it.
	s.set(pods(pod("a"), pod("b", func(p *world.Pod) {
		p.HostNetwork, p.Local.HostPorts = true, []world.HostPort{{Port: 61001, Protocol: tcp, PodPort: 61001}}
	})), web("s", to(tcp, 80)))
	s.world.Allocations = nodeportlocal.Allocated.Only(&nodeportlocal.NodePorts{List: nodeportlocal.SortedNodePorts(
		nodeportlocal.NodePort{Port: world.Port{Protocol: tcp, Number: 61001}, Pod: world.Key{Namespace: "default", Name: "a"}, UID: "uid-a", PodPort: 80})})
	if got, want := s.turn(t), "a: 61000>80/tcp"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	h.Address = netip.MustParseAddr("192.168.100.7")
	both := with(web("s", to(tcp, 80)), func(s *world.Service) { s.IPv6 = true })
	s = newSim(pods(pod("a", at("10.244.1.2", "fd00::2"), hosts(h))), both)
	for _, step := range []struct{ address, want string }{{"192.168.100.8", ""}, {"192.168.100.7", "a: 61000>80/tcp@192.168.100.7"}, {"192.168.100.8", "a:"}} {
		s.world.Kernel = &world.Kernel{Interfaces: []world.Interface{{Name: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(step.address), 24)}}}}
		if got := s.turn(t); got != step.want {
			t.Errorf("with address %s: told %q, want %q", step.address, got, step.want)
		}
	}
	h.Address = netip.IPv4Unspecified()
	s = newSim(pods(pod("a", at("10.244.1.2", "fd00::2"), hosts(h))), both)
	if got, want := s.turn(t), "a: 61000>80/tcp 61000>80/tcp6"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}
