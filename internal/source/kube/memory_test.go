package kube

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// apod is a pod of the node n1.
func apod(name, address string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "a"}}}
	p.Spec.NodeName = "n1"
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}}
	p.Status.PodIPs = []corev1.PodIP{{IP: address}}
	return p
}

// hurried is a source that remembers, and has little patience.
func hurried(dir string, needs world.Needs) func(*Config) {
	return func(c *Config) { c.Memory, c.Needs, c.Patience = dir, needs, 50*time.Millisecond }
}

// An agent that starts while the API server is away goes on with what the last one
// was told, and when it is back nothing is announced that did not change.
func TestAStartWithoutServerGoesByMemory(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), t.TempDir()
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.put("nodes", anode("n2", "192.0.2.2"))
	s.put("pods", apod("a", "10.244.1.2"))
	block := 64
	c := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	c.Spec.NodeSNATPortBlock = &block
	s.put("agentconfigs", c)
	needs := hurried(dir, world.Needs{Pods: world.NodePods, Namespaces: true})
	first := read(t, s, needs)
	first.until("all is there", whatever)
	s.put("nodes", anode("n3", "192.0.2.3"))
	s.remove("nodes", anode("n2", ""))
	first.until("n3 is there, and n2 is not", func(o *source.Objects) bool { return len(o.Nodes) == 2 && o.Nodes[1].Name == "n3" })
	s.stop()

	second := read(t, s, needs)
	o := second.until("all is remembered", whatever)
	if len(o.Nodes) != 2 || o.Nodes[1].Name != "n3" || len(o.Configs) != 1 || *o.Configs[0].Spec.NodeSNATPortBlock != 64 || len(o.Problems) > 0 {
		t.Errorf("nodes %v, configs %v, problems %v", o.Nodes, o.Configs, o.Problems)
	}
	pods := o.Pods.Slice()
	if len(pods) != 1 || pods[0].Node != "n1" || pods[0].Local.Ports[0].Name != "web" {
		t.Errorf("pods %v", pods)
	}
	s.start()
	second.logs("answers again")
	s.put("nodes", anode("n4", "192.0.2.4"))
	p := second.until("n4 is there", func(o *source.Objects) bool { return len(o.Nodes) == 3 })
	if p.Nodes[0] != o.Nodes[0] || p.Configs[0] != o.Configs[0] || p.Pods.Slice()[0] != pods[0] {
		t.Error("what did not change while the server was away is another value")
	}
}

// What is on disk of one kind does not stand for all.
func TestHalfAMemoryIsNone(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), t.TempDir()
	s.put("nodes", anode("n1", "192.0.2.1"))
	read(t, s, hurried(dir, world.Needs{})).until("all is there", whatever)
	s.stop()
	r := read(t, s, hurried(dir, world.Needs{Pods: world.NodePods}))
	r.logs("nothing is remembered of a kind of objects\" kind=Pod")
	r.fails("waiting for the API server", ": Pods: ", "connection refused")
	if err := os.Truncate(filepath.Join(dir, "nodes.jsonl"), 10); err != nil {
		t.Fatal(err)
	}
	read(t, s, hurried(dir, world.Needs{})).fails(": Nodes: ")
	s.start()
	r.until("all is there", whatever)
}

// A file that was cut does not tell of all objects, and must not be taken for all.
func TestACutMemoryIsNone(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), t.TempDir()
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.put("nodes", anode("n2", "192.0.2.2"))
	read(t, s, hurried(dir, world.Needs{})).until("all is there", whatever)
	s.stop()
	path := filepath.Join(dir, "nodes.jsonl")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(strings.LastIndex(strings.TrimSpace(string(content)), "\n")+1)); err != nil {
		t.Fatal(err)
	}
	r := read(t, s, hurried(dir, world.Needs{}))
	r.logs("was cut")
	r.fails("waiting for the API server", ": Nodes: ")
}

// What may not be watched any more is as it was remembered; of what there is no
// definition there is nothing.
func TestWhatIsRefusedAtTheStartIsRemembered(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), t.TempDir()
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.put("agentconfigs", &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	read(t, s, hurried(dir, world.Needs{})).until("all is there", whatever)
	for status, configs := range map[int]int{http.StatusForbidden: 1, http.StatusNotFound: 0} {
		s.refuse("agentconfigs", status)
		// A server that is slow to refuse is, until then, one that does not answer.
		o := read(t, s, hurried(dir, world.Needs{})).until("it is refused", func(o *source.Objects) bool { return len(o.Problems) == 1 })
		if len(o.Configs) != configs {
			t.Errorf("%d: configurations %v, problems %v", status, o.Configs, o.Problems)
		}
	}
}

// A disk that takes nothing is a problem, and keeps nothing back; it ends with its
// cause.
func TestADiskThatTakesNothingIsAProblem(t *testing.T) {
	t.Parallel()
	s, dir := newServer(t), filepath.Join(t.TempDir(), "objects")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.put("nodes", anode("n1", "192.0.2.1"))
	r := read(t, s, hurried(dir, world.Needs{}))
	o := r.until("all is there", whatever)
	if len(o.Nodes) != 1 || !strings.Contains(problems(o), "cannot be cached on disk") {
		t.Errorf("nodes %v, problems %v", o.Nodes, o.Problems)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	r.until("nothing is wrong", func(o *source.Objects) bool { return len(o.Problems) == 0 })
}

// What is remembered is what was kept, however often it changed, and however the
// writing of the last change ended.
func TestAMemoryHoldsWhatWasKept(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	dir := t.TempDir()
	m, l := newMemory[world.Pod](dir, "Pod", "pods", "a=b"), newPods()
	rewritten := 0
	for i := range 3000 {
		k := world.Key{Namespace: "default", Name: strconv.Itoa(random.IntN(50))}
		p := &world.Pod{Key: k, Node: strconv.Itoa(i), Labels: world.NewLabels(map[string]string{"i": strconv.Itoa(i)})}
		if random.IntN(3) == 0 {
			p = nil
		}
		if l.put(k, p) {
			m.note(k)
		}
		was := m.lines
		if err := m.keep(l); err != nil {
			t.Fatal(err)
		}
		if m.lines < was {
			rewritten++
		}
		if i%100 != 0 {
			continue
		}
		again := newPods()
		other := newMemory[world.Pod](dir, "Pod", "pods", "a=b")
		all, err := other.recall(l.key)
		if err != nil {
			t.Fatal(err)
		}
		again.replace(all)
		if !slices.EqualFunc(again.slice(), l.slice(), (*world.Pod).Equal) {
			t.Fatalf("change %d: remembered %v, want %v", i, again.slice(), l.slice())
		}
	}
	if rewritten == 0 {
		t.Error("the file only grows")
	}
	other := newMemory[world.Pod](dir, "Pod", "pods", "a=c")
	if all, err := other.recall(l.key); err == nil {
		t.Errorf("%d objects are remembered of another selection", len(all))
	}
}
