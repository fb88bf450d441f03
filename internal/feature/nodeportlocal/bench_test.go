package nodeportlocal_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// many is the world of a node with so many pods, each with one port that is
// selected.
func many(pods int) *world.World {
	n := &world.Node{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("192.168.100.1")}}
	w := &world.World{Node: n, Peers: &world.Peers{}, Config: source.Defaults(), Attachments: &world.Attachments{}, Kernel: source.PlainKernel(n),
		Allocations: &world.Parts{}, LocalPods: &world.Pods{}, Services: &world.Sorted[world.Service]{}}
	w.Config.NodePortLocal.Ports, w.Config.NodePortLocal.MaxPerNamespace = world.PortRange{Low: 1024, High: 65535}, pods
	w.Services.List = []*world.Service{{Key: world.Key{Namespace: "default", Name: "s"}, Type: "ClusterIP", IPv4: true,
		Selector: world.NewLabels(map[string]string{"app": "web"}), Annotations: world.NewLabels(map[string]string{world.NodePortLocalEnabled: "true"}),
		Ports: []world.ServicePort{{Port: 80, Protocol: 6, TargetPort: 8080}}}}
	var list []*world.Pod
	for i := range pods {
		key := world.Key{Namespace: "default", Name: fmt.Sprintf("web-%06d", i)}
		list = append(list, &world.Pod{Key: key, Node: "n1", Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
			Labels: world.NewLabels(map[string]string{"app": "web", "pod-template-hash": "7c9f", "tier": "front"}), Local: &world.LocalPod{UID: fmt.Sprintf("0a1b2c3d-0000-4000-8000-%012d", i)}})
	}
	w.LocalPods = &world.Pods{List: world.SortedPods(list...)}
	pick(w)
	return w
}

// BenchmarkOneMore is what one pod more, or one less, costs a node that has so many.
func BenchmarkOneMore(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000, 50_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := many(n + 1)
			picks := world.NewSelecting()
			with := *w
			with.Selections = picks.Of(w.Pods, w.Services)
			without := with
			last := w.Pods.List.Slice()[n:]
			without.Pods = &world.Pods{List: w.Pods.List.With(last, nil, world.ComparePods)}
			without.LocalPods = without.Pods
			without.Selections = picks.Of(without.Pods, w.Services)
			render := nodeportlocal.Feature.Render()
			now := render(&without)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				next := [2]world.World{with, without}[i%2]
				next.Allocations = now.Allocations
				if now = render(&next); nodeportlocal.Allocated.Of(now.Allocations).List.Len() != n+1-i%2 {
					b.Fatalf("%d ports", nodeportlocal.Allocated.Of(now.Allocations).List.Len())
				}
			}
		})
	}
}

func BenchmarkRecord(b *testing.B) {
	r := nodeportlocal.Feature.Render()(many(10_000))
	for b.Loop() {
		if _, err := json.Marshal(nodeportlocal.Allocated.Of(r.Allocations)); err != nil {
			b.Fatal(err)
		}
	}
}
