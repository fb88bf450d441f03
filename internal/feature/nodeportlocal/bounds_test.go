package nodeportlocal_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// greedy is the world of a node where so many Services of one namespace select so
// many pods, each Service with so many ports of its own.
func greedy(services, ports, pods int) *world.World {
	w := many(pods)
	w.Config.NodePortLocal = source.Defaults().NodePortLocal
	w.Services.List = nil
	for i := range services {
		s := web(fmt.Sprintf("s%d", i))
		for n := range ports {
			s.Ports = append(s.Ports, to(tcp, uint16(1+(i*ports+n)%65535)))
		}
		w.Services.List = append(w.Services.List, s)
	}
	pick(w)
	return w
}

// What a tenant's Services ask for costs the node no more than the bounds allow,
// whatever they ask for: 6 Services with 10,000 ports each, and 50 pods.
func TestGreedyServicesCostWhatTheBoundsAllow(t *testing.T) {
	w := greedy(6, 10_000, 50)
	var d *nodeportlocal.Decision
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d = nodeportlocal.Decide(w)
	runtime.ReadMemStats(&after)
	t.Logf("%d mappings of %d, %d bytes allocated", len(d.Mappings), 6*10_000*50, after.TotalAlloc-before.TotalAlloc)
	if n := len(d.Mappings); n > w.Config.NodePortLocal.MaxPerNamespace {
		t.Errorf("%d mappings were built", n)
	}
	if n := testing.AllocsPerRun(3, func() { nodeportlocal.Decide(w) }); n > 10_000 {
		t.Errorf("%.0f allocations", n)
	}
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > 32<<20 {
		t.Errorf("%d bytes were allocated", bytes)
	}
	r := nodeportlocal.Feature.Render()(w)
	if len(r.Problems) > 60 || len(r.Events) > 60 || len(r.Problems) < 50 {
		t.Errorf("%d problems, %d events", len(r.Problems), len(r.Events))
	}
	if got := r.Counts["overLimit"] + r.Counts["allocated"] + r.Counts["waiting"]; got != 6*10_000*50 {
		t.Errorf("counted are %v", r.Counts)
	}
	if !r.Reports[0].Status {
		t.Errorf("what a tenant asks for is the node's trouble: %+v", r.Reports[0])
	}
}

// Named ports are looked up, however many a pod has and Services ask for.
func TestManyNamedPorts(t *testing.T) {
	w := greedy(1, 0, 20)
	s := w.Services.List[0]
	for i := range 5000 {
		s.Ports = append(s.Ports, toName(fmt.Sprintf("none-%d", i)))
	}
	s.Ports = append(s.Ports, toName("p-4999"))
	list := w.LocalPods.List.Slice()
	for i, p := range list {
		local := *p.Local
		for n := range 5000 {
			local.Ports = append(local.Ports, world.ContainerPort{Name: fmt.Sprintf("p-%d", n), Port: uint16(1 + n), Protocol: tcp})
		}
		changed := *p
		changed.Local = &local
		list[i] = &changed
	}
	w.LocalPods = &world.Pods{List: world.SortedPods(list...)}
	pick(w)
	d := nodeportlocal.Decide(w)
	if len(d.Mappings) != 20 || d.Mappings[0].PodPort != 5000 {
		t.Errorf("%d mappings", len(d.Mappings))
	}
}

// Who has a mapping keeps it when others come that are too many, of the pod and of
// the namespace, and whatever order they come in.
func TestBoundsLeaveWhatIsThere(t *testing.T) {
	s := newSim(pods(pod("a"), pod("b")), web("s", to(tcp, 90), to(tcp, 91)))
	s.world.Config.NodePortLocal.MaxPerPod, s.world.Config.NodePortLocal.MaxPerNamespace = 3, 5
	for _, step := range []struct {
		pods     []*world.Pod
		services []*world.Service
		want     string
		problems int
	}{
		{pods(pod("a"), pod("b")), services(web("s", to(tcp, 90), to(tcp, 91))), "a: 61000>90/tcp 61001>91/tcp; b: 61002>90/tcp 61003>91/tcp", 0},
		// Ports that stand before those that are there: one more of a, and one too many.
		{pods(pod("a"), pod("b")), services(web("r", to(tcp, 80), to(tcp, 81)), web("s", to(tcp, 90), to(tcp, 91))),
			"a: 61004>80/tcp 61000>90/tcp 61001>91/tcp; b: 61002>90/tcp 61003>91/tcp", 3},
		// A second family of what is there is new.
		{pods(pod("a", at("10.244.1.2", "fd00::2")), pod("b")), services(with(web("s", to(tcp, 90), to(tcp, 91)), func(s *world.Service) { s.IPv6 = true })),
			"a: 61000>90/tcp 61000>90/tcp6 61001>91/tcp; b: 61002>90/tcp 61003>91/tcp", 1},
		{pods(pod("Z"), pod("b")), services(web("s", to(tcp, 90), to(tcp, 91))), "Z: 61005>90/tcp 61006>91/tcp; b: 61002>90/tcp 61003>91/tcp", 0},
		{pods(pod("Y"), pod("Z"), pod("b")), services(web("s", to(tcp, 90), to(tcp, 91))), "Y: 61007>90/tcp; Z: 61005>90/tcp 61006>91/tcp; b: 61002>90/tcp 61003>91/tcp", 1},
	} {
		for _, p := range step.pods {
			if !p.Addresses[0].IsValid() || p.Name < "a" {
				p.Addresses = []netip.Addr{netip.MustParseAddr("10.244.1.77")}
			}
		}
		s.set(step.pods, step.services...)
		for range 2 {
			if got := s.turn(t); got != step.want || len(s.result.Problems) != step.problems {
				t.Errorf("told %q, want %q; problems %v", got, step.want, s.result.Problems)
			}
		}
	}
}

// One pod with a thousand host ports for a port is told of some of them.
func TestManyHostPortsOfOnePort(t *testing.T) {
	a := pod("a")
	for i := range 1000 {
		hosts(world.HostPort{Port: uint16(2000 + i), Protocol: tcp, PodPort: 80})(a)
	}
	s := newSim(pods(a), web("s", to(tcp, 80), to(tcp, 81)))
	s.turn(t)
	d := nodeportlocal.Decide(s.world)
	if n := len(d.Mappings); n != s.world.Config.NodePortLocal.MaxPerPod || d.Mappings[n-1].PodPort != 81 {
		t.Errorf("%d mappings", n)
	}
}
