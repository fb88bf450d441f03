package controller

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"

	"fairlead.dev/fairlead/internal/door"
	"fairlead.dev/fairlead/internal/kube"
)

// Config says what a controller works with: an API server, or directories.
type Config struct {
	REST      *rest.Config // how to connect; nil: directories
	Namespace string       // of the Lease, where there is an API server
	Identity  string       // of this process: the pod's name

	Objects, Reports string // directories of manifests, and of the agents' reports

	MetricsAddress string // "": none
	Log            *slog.Logger
}

// Run is the controller, until ctx is done: one of those that run at a time leads,
// and the others wait.
func Run(ctx context.Context, c Config) error {
	h := &health{moved: time.Now()}
	l := newLoop(c.Log, h.turned)
	elect, err := c.open(l, h)
	if err != nil {
		return err
	}
	if c.MetricsAddress != "" {
		listener, err := net.Listen("tcp", c.MetricsAddress)
		if err != nil {
			return fmt.Errorf("metrics and health: %w", err)
		}
		serving, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			if err := door.Serve(serving, listener, h.handler(l.count), door.Public); err != nil {
				c.Log.Error("metrics and health", "error", err)
			}
		}()
	}
	return elect(ctx, func(ctx context.Context) error {
		h.leads(true)
		l.count.leader.Set(1)
		defer h.leads(false)
		defer l.count.leader.Set(0)
		return l.run(ctx)
	})
}

// open gives l its store, and returns what decides when it runs.
func (c Config) open(l *loop, h *health) (func(context.Context, func(context.Context) error) error, error) {
	if c.REST == nil {
		f := newFiles(c.Objects, c.Reports)
		f.beat = h.asked
		l.store = f
		return f.run, nil
	}
	store, err := newAPIServer(c.REST, c.Namespace, c.Log)
	if err != nil {
		return nil, err
	}
	l.store = store
	leases, err := kube.Client(c.REST, coordinationv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	identity := c.Identity + "_" + rand.Text()[:8] // a pod that starts anew is another
	return (&candidate{client: leases, namespace: c.Namespace, name: Component, identity: identity, log: c.Log, beat: h.asked}).run, nil
}

// health is what the kubelet asks for: whether the controller goes round, and
// whether it could do its work.
type health struct {
	mu      sync.Mutex
	leading bool
	moved   time.Time // when the loop, or who waits to lead, last went round
	err     error     // what came of it
}

// stuck is how long going round takes at most: mostWait, and some requests that
// wait.
const stuck = 3 * time.Minute

func (h *health) leads(leading bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leading, h.moved = leading, time.Now()
}

// turned is called with every turn of the loop.
func (h *health) turned(err error) { h.went(true, err) }

// asked is called with every attempt to lead, or to go on leading.
func (h *health) asked(err error) { h.went(false, err) }

// went notes the news of whoever has the say now.
func (h *health) went(leading bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.leading == leading {
		h.moved, h.err = time.Now(), err
	}
}

func (h *health) handler(m *metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", door.Metrics(m.registry))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		since := time.Since(h.moved)
		h.mu.Unlock()
		if since > stuck {
			http.Error(w, fmt.Sprintf("no reconcile for %s: the controller hangs and should be restarted", since.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		err := h.err
		h.mu.Unlock()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
