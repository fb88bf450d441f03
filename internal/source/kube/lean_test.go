package kube

import (
	"fmt"
	"math/rand"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// filler makes objects with something in every field, and what is parsed such that
// it often makes sense.
func filler() *randfill.Filler {
	one := func(of ...string) func(*rand.Rand) string {
		return func(r *rand.Rand) string { return of[r.Intn(len(of))] }
	}
	node, name := one("n1", "n2"), one("", "web", "dns")
	return randfill.NewWithSeed(1).NilChance(0.2).NumElements(0, 3).Funcs(
		func(*resource.Quantity, randfill.Continue) {},
		func(t *metav1.Time, _ randfill.Continue) { *t = metav1.Now() },
		func(f *metav1.FieldsV1, _ randfill.Continue) { *f = *metav1.NewFieldsV1(`{"f:status":{}}`) },
		func(ip *corev1.PodIP, c randfill.Continue) { ip.IP = fmt.Sprintf("10.244.1.%d", c.Intn(256)) },
		func(p *corev1.PodPhase, c randfill.Continue) {
			*p = corev1.PodPhase(one("Pending", "Running", "Running", "Failed")(c.Rand))
		},
		func(p *corev1.ContainerRestartPolicy, c randfill.Continue) {
			*p = corev1.ContainerRestartPolicy(one("Always", "Never")(c.Rand))
		},
		func(p *corev1.ContainerPort, c randfill.Continue) {
			*p = corev1.ContainerPort{Name: name(c.Rand), ContainerPort: c.Int31n(70_000), HostPort: c.Int31n(3), HostIP: one("", "192.0.2.1")(c.Rand),
				Protocol: corev1.Protocol(one("TCP", "UDP", "SCTP")(c.Rand))}
		},
		func(s *corev1.PodSpec, c randfill.Continue) {
			c.FillNoCustom(s)
			s.NodeName = node(c.Rand)
		},
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			c.FillNoCustom(m)
			m.Name, m.Namespace = "a", name(c.Rand)
			if c.Bool() {
				m.Annotations = map[string]string{world.NodePortLocalPorts: "[]", "other": "x"}
			}
		},
	)
}

// kept makes into what is kept of an object; nil: all of it.
func kept(t *testing.T, of keep, whole []byte, into message) {
	t.Helper()
	part, err := whole, error(nil)
	if of != nil {
		part, err = lean(nil, whole, of)
	}
	if err != nil {
		t.Fatal(err)
	}
	reflect.ValueOf(into).Elem().SetZero()
	if err := into.Unmarshal(part); err != nil {
		t.Fatal(err)
	}
}

// Nothing that a parser looks at is left out before it comes to it.
func TestWhatIsKeptIsAllThatCounts(t *testing.T) {
	t.Parallel()
	f := filler()
	door := source.Door{Node: "n1", Intern: (&interner{}).of}
	counted, local := pods(door, world.ClusterPods), 0
	for range 2000 {
		var p, q corev1.Pod
		f.Fill(&p)
		whole, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		kept(t, nil, whole, &p)
		kept(t, keepOfPods, whole, &q)
		want, got := counted.parse(&p), counted.parse(&q)
		if (want == nil) != (got == nil) || want != nil && !want.Equal(got) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		if want != nil && want.Local != nil && len(want.Local.Ports) > 0 {
			local++
		}
		var n, m corev1.Node
		f.Fill(&n)
		if whole, err = n.Marshal(); err != nil {
			t.Fatal(err)
		}
		kept(t, nil, whole, &n)
		kept(t, keepOfNodes, whole, &m)
		if want, got := nodes.parse(&n), nodes.parse(&m); !reflect.DeepEqual(want, got) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	if local < 100 {
		t.Errorf("%d pods of the node with ports: too few to tell", local)
	}
}

// Whatever comes, what is kept of it is what was there, or it is refused.
func FuzzLean(f *testing.F) {
	p := apod("a", "10.244.1.2")
	whole, err := p.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, message []byte) {
		part, err := lean(nil, message, keepOfPods)
		if err != nil {
			return
		}
		var p, q corev1.Pod
		if p.Unmarshal(message) != nil {
			return
		}
		if err := q.Unmarshal(part); err != nil || q.Name != p.Name || q.Spec.NodeName != p.Spec.NodeName || q.Status.PodIP != p.Status.PodIP ||
			len(q.Spec.Containers) != len(p.Spec.Containers) || len(q.Status.PodIPs) != len(p.Status.PodIPs) {
			t.Fatalf("%+v, %v, want %+v", q, err, p)
		}
	})
}
