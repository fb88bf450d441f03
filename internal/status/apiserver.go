package status

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/kube"
	"fairlead.dev/fairlead/internal/sorted"
)

// How often, where nothing else is said: thousands of agents write to one API
// server.
const (
	lookAgain    = 10 * time.Minute  // at what was written: somebody else may have changed it
	applyAgain   = time.Hour         // annotations, for the same reason
	countEvery   = 5 * time.Minute   // counters and revisions, while nothing else changes
	eventAgain   = time.Minute       // an event that goes on happening
	together     = time.Second       // for changes to come together
	apart        = time.Second / 500 // nodes, that have the same to tell
	unreadyAfter = 10 * time.Second  // before the FairleadNode says that the node is not ready
	brokenAfter  = 30 * time.Second  // before the Node says that it has no pod network
	oneRequest   = 15 * time.Second  // at most, for what is written of one object
)

// An APIServer tells an API server: a FairleadNode, a condition of the Node,
// annotations of its pods, and Events. Each object is made as it should be by
// itself, and one that cannot be holds up no other. What is written is owned by
// server-side apply, so that nobody else's fields are touched.
type APIServer struct {
	node    string
	core    rest.Interface // Kubernetes' own kinds
	ours    rest.Interface
	log     *slog.Logger
	metrics *metrics
	kinds   kinds
	wake    chan struct{} // something is to be told; holds at most one

	mu      sync.Mutex // guards what is to be told; not held during requests
	report  *nodeReport
	network *nodeCondition
	pods    map[types.UID]*pod
	listed  sorted.List[*Pod]  // in the last report
	leaving map[types.UID]bool // of pods, those that were in a report and are not any more
	events  map[string]*event
	heart   *heartbeat // nil: it is not said that the agent is there

	away away // Run's own
}

// NewAPIServer returns a writer for the node to the API server that config leads
// to.
func NewAPIServer(config *rest.Config, node string, log *slog.Logger) (*APIServer, error) {
	config = rest.CopyConfig(config)
	config.WarningHandlerWithContext = rest.NoWarnings{} // a CRD of another version lacks fields
	core, err := kube.Client(config, corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	ours, err := kube.Client(config, schema.GroupVersion{Group: v1alpha1.Group, Version: v1alpha1.Version})
	if err != nil {
		return nil, err
	}
	s := &APIServer{node: node, core: core, ours: ours, log: log, metrics: newMetrics(), kinds: newKinds(),
		wake: make(chan struct{}, 1), pods: map[types.UID]*pod{}, leaving: map[types.UID]bool{}, events: map[string]*event{}}
	s.report = &nodeReport{tries: tries{kind: s.kinds.report}, s: s, slow: time.Now().Add(rand.N(countEvery))}
	s.network = &nodeCondition{tries: tries{kind: s.kinds.node}, s: s}
	return s, nil
}

// Report is part of Writer.
func (s *APIServer) Report(r Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	turn := now.Add(turnAmong(r.Node.Status.Counters.Peers))
	if s.heart != nil {
		s.heart.reported = now
	}
	s.report.set(r.Node.Status, turn)
	s.network.set(r.Network, turn)
	s.setPods(r.Pods, now)
	s.awake()
}

// Events is part of Writer.
func (s *APIServer) Events(list []corev1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setEvents(list, time.Now())
	s.awake()
}

// Earlier is part of Writer. The API server does not find events by node.
func (s *APIServer) Earlier() []corev1.Event { return nil }

func (s *APIServer) awake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// An object is one in the cluster.
type object interface {
	// due is from when on it is to be written or looked at; zero: not before
	// something new is told of it. The lock is held.
	due() time.Time
	// write makes it as it should be.
	write(ctx context.Context) error
	again() *tries
}

// objects calls each with all of them.
func (s *APIServer) objects(each func(object)) {
	each(s.report)
	each(s.network)
	if s.heart != nil {
		each(s.heart)
	}
	for _, p := range s.pods {
		each(p)
	}
	for _, e := range s.events {
		each(e)
	}
}

// Run is part of Writer. What is not written when ctx is done is for the next
// agent to tell: the node's network stays, and so does what is said of it.
func (s *APIServer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		o, wait := s.next(time.Now())
		if o != nil {
			s.attempt(ctx, o)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next is the object that has been due for longest, and may be written now; or for
// how long there is none, if nothing new is told.
func (s *APIServer) next(now time.Time) (object, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first object
	var since time.Time
	wait := lookAgain
	s.objects(func(o object) {
		due := o.due()
		if due.IsZero() {
			return
		}
		t := o.again()
		at := latest(due, t.notBefore, s.away.until, t.kind.freeAt(now))
		switch {
		case at.After(now):
			wait = min(wait, at.Sub(now))
		case first == nil || due.Before(since):
			first, since = o, due
		}
	})
	return first, wait
}

// attempt writes o, and sees to what comes of it.
func (s *APIServer) attempt(ctx context.Context, o object) {
	t := o.again()
	t.kind.bucket.AllowN(time.Now(), 1)
	within, stop := context.WithTimeout(ctx, oneRequest)
	defer stop()
	err := o.write(within)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	s.reached(err, now)
	if err == nil {
		s.succeeded(t)
	} else {
		s.failed(t, err, now)
	}
}

// patch is a request that makes fields of one object ours, and as they are in
// body.
func patch(client rest.Interface, body any) *rest.Request {
	content, err := json.Marshal(body)
	if err != nil {
		panic(err) // body is a map of strings and API types
	}
	return client.Patch(types.ApplyPatchType).Param("fieldManager", Component).Param("force", "true").Body(content).MaxRetries(0)
}

// mergePatch is a request that changes fields of one object.
func mergePatch(client rest.Interface, body any) *rest.Request {
	content, err := json.Marshal(body)
	if err != nil {
		panic(err) // body is a map of strings and API types
	}
	return client.Patch(types.MergePatchType).Param("fieldManager", Component).Body(content).MaxRetries(0)
}

// getNode reads the Node.
func (s *APIServer) getNode(ctx context.Context) (*corev1.Node, error) {
	n := &corev1.Node{}
	return n, s.core.Get().Resource("nodes").Name(s.node).MaxRetries(0).Do(ctx).Into(n)
}

func latest(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if t.After(out) {
			out = t
		}
	}
	return out
}

// turnAmong is how long to wait where all nodes may have the same to tell at the
// same time, such as a mistake that they all see: few enough write at once.
func turnAmong(peers int64) time.Duration {
	return rand.N(time.Duration(peers+1) * apart)
}

// about is d, a fifth more or less: what began together does not go on together.
func about(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5) }
