package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
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

// BenchmarkMapping is a turn in which one pod is mapped more, or less, on a node
// that maps many: from the objects to a kernel that leads there, with the record on
// the disk and the port held.
func BenchmarkMapping(b *testing.B) {
	for _, many := range []int{100, 1000, 10_000, 50_000} {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			host := netnstest.New(b)
			netnstest.Wire(host, "eth0", netnstest.New(b), "eth0")
			host.Address("eth0", "192.168.100.1/24")
			one := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.1.0.0/16"}}}
			one.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.100.1"}}
			o := source.Objects{Nodes: []*corev1.Node{one}, Services: []*world.Service{{Key: world.Key{Namespace: "default", Name: "s"}, IPv4: true,
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
			less.Pods = o.Pods.With(pods[many:], nil, world.ComparePods) // as a source has it
			with, without := &o, &less
			s := &objectsOf{without}
			a, err := New(Config{Node: "n1", Objects: s, StateDir: filepath.Join(b.TempDir(), "state"), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer a.helpers.close()
			o.Configs = wide()
			less.Configs = o.Configs
			host.Do(a.turn)
			var took []time.Duration
			host.Do(func() error {
				for i := 0; b.Loop(); i++ {
					s.now = []*source.Objects{with, without}[i%2]
					began := time.Now()
					if err := a.turn(); err != nil {
						return err
					}
					took = append(took, time.Since(began))
				}
				return nil
			})
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
