package kube

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
)

// A reader watches a source as an agent does.
type reader struct {
	*Source
	t     *testing.T
	told  atomic.Int64 // announcements
	log   *logged
	ended chan struct{}
}

func read(t *testing.T, s *server, change ...func(*Config)) *reader {
	t.Helper()
	r := &reader{t: t, log: &logged{}, ended: make(chan struct{})}
	c := Config{REST: &rest.Config{Host: "http://" + s.address, QPS: -1}, Node: "n1", Log: slog.New(slog.NewTextHandler(r.log, nil))}
	for _, f := range change {
		f(&c)
	}
	var err error
	if r.Source, err = New(c); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.ended)
		_ = r.Watch(t.Context(), func() { r.told.Add(1) })
	}()
	return r
}

// until waits for objects for which f holds.
func (r *reader) until(what string, f func(*source.Objects) bool) *source.Objects {
	r.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var o *source.Objects
		if o, err = r.Read(); err == nil && f(o) {
			return o
		}
	}
	r.t.Fatalf("%s: not after a minute; last error %v; log:\n%s", what, err, r.log)
	return nil
}

// quiet waits until all that is known has been announced, and returns how often
// something was.
func (r *reader) quiet() int64 {
	r.t.Helper()
	const quiet = 5 * settle
	told, since := r.told.Load(), time.Now()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(settle / 4) {
		r.mu.Lock()
		settling := r.settling
		r.mu.Unlock()
		if now := r.told.Load(); settling || now != told {
			told, since = now, time.Now()
		}
		if time.Since(since) > quiet {
			return told
		}
	}
	r.t.Fatal("something is announced all the time")
	return 0
}

// fails waits for an error with the given words.
func (r *reader) fails(words ...string) {
	r.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_, err = r.Read()
		if err != nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(err.Error(), w) }) {
			return
		}
	}
	r.t.Fatalf("error %v, want one with %q", err, words)
}

// logs waits for words in the log.
func (r *reader) logs(words string) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.log.String(), words); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%q is not in the log after a minute:\n%s", words, r.log)
		}
	}
}

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func anode(name, address string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"a": "b"}}}
	n.Spec.PodCIDRs = []string{"10.244.1.0/24"}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}
	return n
}

func whatever(*source.Objects) bool { return true }

func problems(o *source.Objects) string { return fmt.Sprint(o.Problems) }

func TestObjectsAreThoseOfTheServer(t *testing.T) {
	t.Parallel()
	for _, old := range []bool{false, true} {
		s := newServer(t)
		s.old = old
		s.put("nodes", anode("n2", "192.0.2.2"))
		s.put("nodes", anode("n1", "192.0.2.1"))
		s.put("agentconfigs", &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		f := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}
		f.Status.OverlayAddresses, f.Status.ObservedRevision = []string{"192.0.2.3"}, 7
		s.put("fairleadnodes", f)
		r := read(t, s)
		o := r.until("all is there", whatever)
		if len(o.Nodes) != 2 || o.Nodes[0].Name != "n1" || len(o.Nodes[0].Status.Addresses) != 1 || o.Nodes[0].Labels != nil {
			t.Errorf("nodes %v", o.Nodes)
		}
		if len(o.Configs) != 1 || len(o.Reports) != 1 || o.Reports[0].Status.ObservedRevision != 0 || len(o.Problems) > 0 {
			t.Errorf("configs %v, reports %v, problems %v", o.Configs, o.Reports, o.Problems)
		}
		s.put("nodes", anode("n3", "192.0.2.3"))
		p := r.until("n3 is there", func(o *source.Objects) bool { return len(o.Nodes) == 3 })
		if p.Nodes[0] != o.Nodes[0] || p.Configs[0] != o.Configs[0] || p.Revision <= o.Revision {
			t.Error("what did not change is another value, or what changed has no new revision")
		}
		s.remove("nodes", anode("n2", "192.0.2.2"))
		r.until("n2 is gone", func(o *source.Objects) bool { return len(o.Nodes) == 2 && o.Nodes[1].Name == "n3" })
	}
}

// Nodes tell of themselves all the time. Only what counts is announced.
func TestAHeartbeatIsNoChange(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	r := read(t, s)
	o := r.until("all is there", whatever)
	n := anode("n1", "192.0.2.1")
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	s.put("nodes", n)
	s.put("nodes", anode("n2", "192.0.2.2"))
	p := r.until("n2 is there", func(o *source.Objects) bool { return len(o.Nodes) == 2 })
	if p.Nodes[0] != o.Nodes[0] || p.Revision != o.Revision+1 {
		t.Errorf("revision %d after %d", p.Revision, o.Revision)
	}
}

// While the server is away, and when it is back with the same objects, nothing
// changes; when it comes back with others, only they do.
func TestAServerThatReturnsChangesNothing(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(*server){
		"where it was": func(*server) {}, "and has forgotten what was": (*server).forget,
	} {
		s := newServer(t)
		s.put("nodes", anode("n1", "192.0.2.1"))
		s.put("nodes", anode("n2", "192.0.2.2"))
		r := read(t, s)
		o := r.until("all is there", whatever)
		told := r.quiet()
		s.stop()
		r.logs("does not answer")
		forget(s)
		s.start()
		r.logs("answers again")
		if p, err := r.Read(); p != o || err != nil || r.quiet() != told {
			t.Errorf("%s: revision %d, error %v, told %d times", name, p.Revision, err, r.told.Load()-told)
		}
		s.put("nodes", anode("n3", "192.0.2.3"))
		p := r.until("n3 is there", func(o *source.Objects) bool { return len(o.Nodes) == 3 })
		if p.Nodes[0] != o.Nodes[0] {
			t.Errorf("%s: n1 is another value", name)
		}
		if n := strings.Count(r.log.String(), "\n"); n != 2 {
			t.Errorf("%s: %d lines of log:\n%s", name, n, r.log)
		}
	}
}

func TestWhileNoServerAnswersTheErrorSaysWhy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.stop()
	r := read(t, s)
	r.fails("waiting for the API server http://"+s.address, "Nodes, AgentConfigs, FairleadNodes: ", "connection refused")
	s.start()
	r.until("all is there", whatever)
}

// Permissions and definitions that are lacking concern one kind, and say so; the
// rest is as it should be, and all is as soon as they are there.
func TestAKindThatIsRefusedDoesNotKeepTheOthersBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.put("agentconfigs", &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	s.refuse("agentconfigs", http.StatusNotFound)
	s.refuse("fairleadnodes", http.StatusForbidden)
	r := read(t, s)
	o := r.until("the rest is there", whatever)
	for _, want := range []string{"Kind FairleadNode: may not be watched, none count", "allow the agent to list and watch fairleadnodes.fairlead.dev",
		"Kind AgentConfig: is not known to the API server", "install the CustomResourceDefinition agentconfigs.fairlead.dev"} {
		if !strings.Contains(problems(o), want) {
			t.Errorf("problems %s, want %q", problems(o), want)
		}
	}
	s.refuse("agentconfigs", 0)
	r.until("the configuration is there", func(o *source.Objects) bool { return len(o.Configs) == 1 && len(o.Problems) == 1 })
	s.refuse("fairleadnodes", 0)
	o = r.until("nothing is wrong", func(o *source.Objects) bool { return len(o.Problems) == 0 })
	s.refuse("agentconfigs", http.StatusForbidden)
	s.cut()
	p := r.until("the permission is gone", func(o *source.Objects) bool { return len(o.Problems) == 1 })
	if len(p.Configs) != 1 || p.Configs[0] != o.Configs[0] || !strings.Contains(problems(p), "those known before still count") {
		t.Errorf("configurations %v, problems %s", p.Configs, problems(p))
	}
}

// A kind that was refused has no value to go on with when the server goes away. The
// others have.
func TestARefusedKindAndAnOutageKeepWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.refuse("fairleadnodes", http.StatusNotFound)
	r := read(t, s)
	r.until("the rest is there", whatever)
	s.stop()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.log.String(), "does not answer"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the outage is not noticed:\n%s", r.log)
		}
	}
	r.mu.Lock()
	r.announce()
	r.mu.Unlock()
	if o, err := r.Read(); err != nil || len(o.Nodes) != 1 {
		t.Errorf("objects %v, error %v", o, err)
	}
}

// An agent that may not read how the network is to be does not guess.
func TestSettingsThatMayNotBeReadAreAwaited(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.refuse("agentconfigs", http.StatusForbidden)
	r := read(t, s)
	r.fails("waiting for", "AgentConfigs: agentconfigs", "403")
	s.refuse("agentconfigs", 0)
	r.until("the settings may be read", whatever)
}

func TestWithoutNodesThereIsNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.refuse("nodes", http.StatusForbidden)
	read(t, s).fails("waiting for", "Nodes: nodes: 403")
}
