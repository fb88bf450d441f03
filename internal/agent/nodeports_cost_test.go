package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// objectsOf is a source of objects that a test sets.
type objectsOf struct{ now *source.Objects }

func (s *objectsOf) Read() (*source.Objects, error) { return s.now, nil }

func (s *objectsOf) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// wide is a configuration with room for many mappings.
func wide() []*v1alpha1.AgentConfig {
	ports, most := "1024-65535", 50_001
	c := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultConfig}}
	c.Spec.NodePortLocal = &v1alpha1.NodePortLocal{PortRange: &ports, MaxPerNamespace: &most}
	return []*v1alpha1.AgentConfig{c}
}

// manyMappings are the objects of a node with so many pods, each mapped once, and with
// one pod more, as a source has them.
func manyMappings(many int) (without, with *source.Objects) {
	one := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.1.0.0/16"}}}
	one.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.100.1"}}
	o := source.Objects{Nodes: []*corev1.Node{one}, Configs: wide(), Services: []*world.Service{{Key: world.Key{Namespace: "default", Name: "s"}, IPv4: true,
		Selector: world.NewLabels(map[string]string{"app": "web"}), Annotations: world.NewLabels(map[string]string{world.NodePortLocalEnabled: "true"}),
		Ports: []world.ServicePort{{Port: 80, Protocol: 6, TargetPort: 8080}}}}}
	var pods []*world.Pod
	for i := range many + 1 {
		pods = append(pods, &world.Pod{Key: world.Key{Namespace: "default", Name: fmt.Sprintf("web-%06d", i)}, Node: "n1",
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
			Labels:    world.NewLabels(map[string]string{"app": "web", "tier": "front"}), Local: &world.LocalPod{UID: fmt.Sprintf("0a1b2c3d-0000-4000-8000-%012d", i)}})
	}
	o.Pods = world.SortedPods(pods...)
	less := o
	less.Pods = o.Pods.With(pods[many:], nil, world.ComparePods)
	return &less, &o
}

// One mapping more or less among many costs nothing for the others, in all of a turn: none
// of their lists is copied. Of a list with a value of 8 bytes for each of 10,000 mappings a
// copy has 80,000 bytes; where they are shared, a list costs one for each mapping.
func TestOneMappingCostsNothingForTheOthers(t *testing.T) {
	perTurn := func(many int) uint64 {
		host := netnstest.New(t)
		netnstest.Wire(host, "eth0", netnstest.New(t), "eth0")
		host.Address("eth0", "192.168.100.1/24")
		without, with := manyMappings(many)
		s := &objectsOf{without}
		a, err := New(Config{Node: "n1", Objects: s, StateDir: filepath.Join(t.TempDir(), "state"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer a.helpers.close()
		const times = 20
		var before, after runtime.MemStats
		host.Do(func() error {
			for i := range 2 * times {
				if i == times { // what is made once is there by now
					runtime.ReadMemStats(&before)
				}
				s.now = []*source.Objects{without, with}[i%2]
				if err := a.turn(); err != nil {
					return err
				}
			}
			runtime.ReadMemStats(&after)
			return nil
		})
		if n := nodeportlocal.Allocated.Of(a.snapshot.Load().Rendered.Allocations).List.Len(); n != many+1 {
			t.Fatalf("%d mappings, want %d", n, many+1)
		}
		return (after.TotalAlloc - before.TotalAlloc) / times
	}
	const many = 10_000
	few, much := perTurn(100), perTurn(many)
	t.Logf("a turn makes %d bytes among 100 mappings, %d among %d", few, much, many)
	if much > few+mostBytesPerMapping*many {
		t.Errorf("a turn makes %d bytes among 100 mappings, and %d among %d", few, much, many)
	}
}

// mostBytesPerMapping is what a turn may make for each mapping that stays: of each of some
// twenty lists, 24 bytes for a chunk of about 256.
const mostBytesPerMapping = 8
