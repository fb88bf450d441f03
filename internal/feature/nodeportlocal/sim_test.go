package nodeportlocal_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// sim is a node and its cluster: what one turn gives out and writes is there at the
// next.
type sim struct {
	world  *world.World
	result *feature.Result
	warm   feature.Render // of all turns
}

func newSim(pods []*world.Pod, services ...*world.Service) *sim {
	n := &world.Node{Name: "n1", Addresses: addresses("192.168.100.1", "2001:db8::1")}
	s := &sim{warm: nodeportlocal.Feature.Render(), world: &world.World{Node: n, Peers: &world.Peers{}, Config: source.Defaults(), Attachments: &world.Attachments{},
		Kernel: source.PlainKernel(n), Allocations: &world.Parts{}}}
	s.world.Config.NodePortLocal.Ports = world.PortRange{Low: 61000, High: 61009}
	s.set(pods, services...)
	return s
}

func (s *sim) set(pods []*world.Pod, services ...*world.Service) {
	slices.SortFunc(pods, func(a, b *world.Pod) int { return a.Compare(b.Key) })
	pods = slices.DeleteFunc(slices.Clone(pods), func(p *world.Pod) bool { return p.Node != s.world.Node.Name })
	s.world.LocalPods = &world.Pods{List: world.SortedPods(pods...)}
	if s.world.Services == nil || !slices.Equal(s.world.Services.List, services) { // else they are the same value, as the source has it
		s.world.Services = &world.Sorted[world.Service]{List: services}
	}
	pick(s.world)
}

// pick has w's Services select its pods.
func pick(w *world.World) {
	w.Pods = &world.Pods{List: w.LocalPods.List}
	w.Selections = world.NewSelecting().Of(w.Pods, w.Services)
}

// turn renders the world, and says which ports the pods are told, in short.
func (s *sim) turn(t *testing.T) string {
	t.Helper()
	w := *s.world
	s.result = s.render(t, &w)
	w.Allocations = w.Allocations.With(s.result.Allocations)
	if again := nodeportlocal.Feature.Render()(&w); again.Allocations != nil && nodeportlocal.Allocated.Of(again.Allocations) != nodeportlocal.Allocated.Of(w.Allocations) {
		t.Errorf("what was given out is given back, and something else is given out: %+v, then %+v", nodeportlocal.Allocated.Of(w.Allocations), nodeportlocal.Allocated.Of(again.Allocations))
	}
	s.world.Allocations = w.Allocations
	var told []string
	pods := s.world.LocalPods.List.Slice()
	for n := range s.result.Notes.All() {
		told = append(told, strings.TrimSpace(n.Pod.Name+": "+short(t, n.Value)))
		i := slices.Index(pods, n.Pod)
		p, local := *n.Pod, *n.Pod.Local
		annotations := maps.Collect(local.Annotations.All())
		delete(annotations, n.Name)
		if n.Value != "" {
			annotations[n.Name] = n.Value
		}
		local.Annotations = world.NewLabels(annotations)
		p.Local, pods[i] = &local, &p
	}
	s.world.LocalPods = &world.Pods{List: world.SortedPods(pods...)}
	pick(s.world)
	return strings.Join(told, "; ")
}

// render is what a new render makes of w. One that remembers all turns makes the same.
func (s *sim) render(t *testing.T, w *world.World) *feature.Result {
	t.Helper()
	cold := nodeportlocal.Feature.Render()(w)
	if warm := s.warm(w); !reflect.DeepEqual(warm, cold) {
		if d := cmp.Diff(cold, warm, cmp.Exporter(func(reflect.Type) bool { return true }), cmpopts.EquateEmpty(), cmp.Comparer(sameAllocations)); d != "" {
			t.Fatalf("who remembers the turns before renders something else (-cold +warm):\n%s", d)
		}
	}
	return cold
}

// short is an annotation as NODEPORT>PODPORT/PROTOCOL, with a 6 behind IPv6 and the
// node's address where that is not the usual one.
func short(t *testing.T, annotation string) string {
	t.Helper()
	if annotation == "" {
		return ""
	}
	var list []struct {
		PodPort, NodePort          int
		NodeIP, Protocol, IPFamily string
	}
	if err := json.Unmarshal([]byte(annotation), &list); err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, e := range list {
		word := fmt.Sprintf("%d>%d/%s", e.NodePort, e.PodPort, e.Protocol)
		usual := "192.168.100.1"
		if e.IPFamily == "IPv6" {
			word, usual = word+"6", "2001:db8::1"
		}
		if e.NodeIP != usual {
			word += "@" + e.NodeIP
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func addresses(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func pods(list ...*world.Pod) []*world.Pod { return list }

// pod is one of this node, with the label app=web and an IPv4 address, changed as
// the functions say.
func pod(name string, change ...func(*world.Pod)) *world.Pod {
	p := &world.Pod{Key: world.Key{Namespace: "default", Name: name}, Node: "n1", Addresses: addresses("10.244.1." + fmt.Sprint(int(name[0]-'a')+2)),
		Labels: world.NewLabels(map[string]string{"app": "web"}), Local: &world.LocalPod{UID: "uid-" + name}}
	for _, f := range change {
		f(p)
	}
	return p
}

func at(texts ...string) func(*world.Pod) {
	return func(p *world.Pod) { p.Addresses = addresses(texts...) }
}

func app(value string) func(*world.Pod) {
	return func(p *world.Pod) { p.Labels = world.NewLabels(map[string]string{"app": value}) }
}

func named(name string, port uint16) func(*world.Pod) {
	return func(p *world.Pod) {
		p.Local.Ports = append(p.Local.Ports, world.ContainerPort{Name: name, Port: port, Protocol: tcp})
	}
}

func hosts(h world.HostPort) func(*world.Pod) {
	return func(p *world.Pod) { p.Local.HostPorts = append(p.Local.HostPorts, h) }
}

func says(annotation string) func(*world.Pod) {
	return func(p *world.Pod) {
		p.Local.Annotations = world.NewLabels(map[string]string{world.NodePortLocalPorts: annotation})
	}
}

const (
	tcp  = 6
	udp  = 17
	sctp = 132
)

// to is a Service's port that leads to a port of its pods.
func to(protocol byte, target uint16) world.ServicePort {
	return world.ServicePort{Port: 80, Protocol: protocol, TargetPort: target}
}

func toName(name string) world.ServicePort {
	return world.ServicePort{Port: 80, Protocol: tcp, TargetName: name}
}

// web is a Service that selects app=web and leads to the ports, of IPv4.
func web(name string, ports ...world.ServicePort) *world.Service {
	return &world.Service{Key: world.Key{Namespace: "default", Name: name}, Type: "ClusterIP", IPv4: true,
		Selector: world.NewLabels(map[string]string{"app": "web"}), Ports: ports,
		Annotations: world.NewLabels(map[string]string{world.NodePortLocalEnabled: "true"})}
}

func with(s *world.Service, change func(*world.Service)) *world.Service {
	out := *s
	change(&out)
	return &out
}

// sameAllocations reports whether a and b say the same.
func sameAllocations(a, b *world.Parts) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Keeping(b) == b
}
