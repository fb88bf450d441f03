package kube

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// Nothing is asked for that nobody needs.
func TestOnlyWhatIsNeededIsWatched(t *testing.T) {
	t.Parallel()
	resources := []string{"pods", "namespaces", "services", "egresses"}
	everything := world.Needs{Pods: world.ClusterPods, Namespaces: true, Services: true, Egresses: true}
	for needs, want := range map[world.Needs][4]int{
		{}:                     {0, 0, 0, 0},
		{Pods: world.NodePods}: {1, 0, 0, 0},
		everything:             {2, 1, 1, 1},
	} {
		s := newServer(t)
		s.put("nodes", anode("n1", "192.0.2.1"))
		s.put("pods", apod("a", "10.244.1.2"))
		elsewhere := apod("b", "10.244.2.2")
		elsewhere.Spec.NodeName = "n2"
		s.put("pods", elsewhere)
		meta := metav1.ObjectMeta{Namespace: "default", Name: "x"}
		s.put("namespaces", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		s.put("services", &corev1.Service{ObjectMeta: meta})
		s.put("egresses", &v1alpha1.Egress{ObjectMeta: metav1.ObjectMeta{Name: "e"}})
		r := read(t, s, hurried("", needs))
		o := r.until("all is there", whatever)
		if got := [4]int{o.Pods.Len(), len(o.Namespaces), len(o.Services), len(o.Egresses)}; got != want {
			t.Errorf("needed are %+v: %v, want %v", needs, got, want)
		}
		s.mu.Lock()
		for i, resource := range resources {
			if want[i] == 0 && s.requests[resource] > 0 {
				t.Errorf("needed are %+v, and %s were asked for", needs, resource)
			}
		}
		s.mu.Unlock()
	}
}

// A pod that is done has no addresses any more, and comes back with others.
func TestAPodThatIsDoneIsNone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.put("pods", apod("a", "10.244.1.2"))
	r := read(t, s, hurried("", world.Needs{Pods: world.ClusterPods}))
	r.until("all is there", func(o *source.Objects) bool { return o.Pods.Len() == 1 })
	done := apod("a", "10.244.1.2")
	done.Status.Phase = corev1.PodSucceeded
	s.put("pods", done)
	r.until("the pod is done", func(o *source.Objects) bool { return o.Pods.Len() == 0 })
	s.put("pods", apod("a", "10.244.1.3"))
	r.until("it is there again", func(o *source.Objects) bool { return o.Pods.Len() == 1 })
	s.remove("pods", apod("a", "10.244.1.3"))
	r.until("it is gone", func(o *source.Objects) bool { return o.Pods.Len() == 0 })
	if problems, err := testutil.CollectAndLint(r.Source); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}
