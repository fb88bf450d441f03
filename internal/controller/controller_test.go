package controller

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// memory is a store that shows what was written some time later, as a watch does.
type memory struct {
	mu      sync.Mutex
	cluster Cluster
	fails   error
	writes  []metav1.Condition
	changed func()
	lag     time.Duration
}

func (m *memory) Read() (*Cluster, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.cluster
	return &c, nil
}

func (m *memory) Watch(ctx context.Context, changed func()) error {
	m.mu.Lock()
	m.changed = changed
	m.mu.Unlock()
	changed()
	<-ctx.Done()
	return nil
}

func (m *memory) Write(_ context.Context, o Object, s Status) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, s.Conditions...)
	if m.fails != nil {
		return m.fails
	}
	time.AfterFunc(m.lag, func() {
		m.set(func(c *Cluster) { c.Objects = []Object{with(o, s)} })
	})
	return nil
}

// with is the object once it has the status.
func with(o Object, s Status) Object {
	switch is := o.Object.(type) {
	case *v1alpha1.Egress:
		next := is.DeepCopy()
		next.Status.Addresses, next.Status.Conditions = s.Addresses, s.Conditions
		return ofEgress(next)
	default:
		next := is.(*v1alpha1.AgentConfig).DeepCopy()
		meta.SetStatusCondition(&next.Status.Conditions, s.Conditions[0])
		return ofConfig(next)
	}
}

func (m *memory) Silent() (int, []Silence) { return 0, nil }

func (m *memory) Doubt(context.Context, Silence) error { return nil }

func (m *memory) set(change func(*Cluster)) {
	m.mu.Lock()
	change(&m.cluster)
	m.mu.Unlock()
	m.changed()
}

func (m *memory) written() []metav1.Condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.writes
}

// running runs test beside a loop over a cluster of n1, whose agent has read
// default.
func running(t *testing.T, test func(*memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{lag: 3 * time.Second, cluster: Cluster{
			Nodes: nodesOf("n1"), Objects: []Object{ofConfig(config("default", 1))},
			Reports: []*v1alpha1.FairleadNode{reportOf("n1", 1)},
		}}
		l := newLoop(slog.New(slog.DiscardHandler), func(error) {})
		l.store = m
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.run(ctx) }()
		synctest.Wait()
		test(m)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAConditionIsWrittenOnceAndWhenItChanges(t *testing.T) {
	running(t, func(m *memory) {
		time.Sleep(time.Hour)
		if w := m.written(); len(w) != 1 || w[0].Status != metav1.ConditionTrue {
			t.Fatalf("%v", w)
		}
		m.set(func(c *Cluster) {
			c.Reports = []*v1alpha1.FairleadNode{reportOf("n1", 1, problem("AgentConfig default", "a", "is wrong"))}
		})
		time.Sleep(2 * pause)
		w := m.written()
		if len(w) != 2 || w[1].Status != metav1.ConditionFalse || !w[1].LastTransitionTime.After(w[0].LastTransitionTime.Time) {
			t.Fatalf("%v", w)
		}
	})
}

func TestAConditionThatSomebodyElseChangedIsPutRight(t *testing.T) {
	running(t, func(m *memory) {
		time.Sleep(time.Minute)
		forged := config("default", 1)
		forged.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: "Forged"}}
		m.set(func(c *Cluster) { c.Objects = []Object{ofConfig(forged)} })
		time.Sleep(time.Minute)
		if w := m.written(); len(w) != 2 || w[1].Status != metav1.ConditionTrue {
			t.Errorf("%v", w)
		}
	})
}

// After a change the condition is about the generation before for as long as the
// agents take; that nobody reads the new one is told when it lasts.
func TestAgentsHaveAMomentToReadWhatChanged(t *testing.T) {
	running(t, func(m *memory) {
		time.Sleep(time.Minute)
		m.set(func(c *Cluster) { c.Objects = []Object{ofConfig(config("default", 2))} })
		time.Sleep(patience / 2)
		m.set(func(c *Cluster) { c.Reports = []*v1alpha1.FairleadNode{reportOf("n1", 2)} })
		time.Sleep(time.Minute)
		if w := m.written(); len(w) != 2 || w[1].Status != metav1.ConditionTrue || w[1].ObservedGeneration != 2 {
			t.Errorf("%v", w)
		}
		m.set(func(c *Cluster) { c.Objects = []Object{ofConfig(config("default", 3))} })
		time.Sleep(2*patience + lookAgain)
		if w := m.written(); len(w) != 3 || w[2].Status != metav1.ConditionUnknown || w[2].ObservedGeneration != 3 {
			t.Errorf("%v", w)
		}
	})
}

func TestWhatChangesAllTheTimeIsWrittenNowAndThen(t *testing.T) {
	running(t, func(m *memory) {
		m.mu.Lock()
		m.lag = 10 * time.Millisecond
		m.mu.Unlock()
		time.Sleep(time.Minute)
		for i := range 6000 { // ten minutes
			wrong := problem("AgentConfig default", "a", time.Duration(i).String())
			m.set(func(c *Cluster) { c.Reports = []*v1alpha1.FairleadNode{reportOf("n1", 1, wrong)} })
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(m.written()); n > 610 || n < 100 {
			t.Errorf("%d writes in ten minutes", n)
		}
	})
}

func TestAWriteThatFailsIsTriedAgainEverMoreSeldom(t *testing.T) {
	running(t, func(m *memory) {
		m.mu.Lock()
		m.fails = errors.New("no")
		m.writes = nil
		m.mu.Unlock()
		time.Sleep(time.Hour)
		if n := len(m.written()); n < 50 || n > 90 {
			t.Errorf("%d writes in an hour", n)
		}
		m.mu.Lock()
		m.fails = nil
		m.mu.Unlock()
		time.Sleep(2 * mostWait)
		n := len(m.written())
		time.Sleep(time.Hour)
		if w := m.written(); len(w) != n || w[n-1].Status != metav1.ConditionTrue {
			t.Errorf("%d writes, then %d", n, len(w))
		}
	})
}
