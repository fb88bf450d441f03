package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/door"
	"fairlead.dev/fairlead/internal/quote"
)

// listeners are the agent's two doors: the socket for the plugin and the
// command line, which only root may open, and metrics and health for everyone
// on the node.
type listeners struct{ socket, metrics net.Listener }

func (a *Agent) listen() (listeners, error) {
	var l listeners
	var err error
	if l.socket, err = listenUnix(a.config.Socket); err != nil {
		return l, err
	}
	if a.config.MetricsAddress == "" {
		return l, nil
	}
	if l.metrics, err = net.Listen("tcp", a.config.MetricsAddress); err != nil {
		l.socket.Close()
		return l, fmt.Errorf("metrics and health: %w", err)
	}
	return l, nil
}

// metricsAt is where metrics are served; zero: nowhere.
func (l listeners) metricsAt() netip.AddrPort {
	if l.metrics == nil {
		return netip.AddrPort{}
	}
	at, _ := netip.ParseAddrPort(l.metrics.Addr().String())
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// listenUnix takes the place of a socket that a dead agent left behind, not of
// one that answers.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another agent answers on %s", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	// Of all that this process makes meanwhile, only the better: it has just begun.
	defer unix.Umask(unix.Umask(0o177))
	return net.Listen("unix", path)
}

func (a *Agent) serve(ctx context.Context, l listeners) error {
	failed := make(chan error, 2)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		failed <- door.Serve(ctx, l.socket, http.MaxBytesHandler(a.api(), 1<<20), door.Limits{Connections: mostCallers})
	}()
	if l.metrics != nil {
		go func() { failed <- door.Serve(ctx, l.metrics, a.public(), door.Public) }()
	}
	return <-failed
}

// mostCallers is how many the plugin and the command line are at a time, at most: a
// node has hardly as many pods.
const mostCallers = 1024

func (a *Agent) public() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if since, stuck := a.loop.stuck(); stuck {
			http.Error(w, fmt.Sprintf("no reconcile has ended for %s: the agent hangs and should be restarted", since.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s := a.snapshot.Load(); !s.Ready {
			http.Error(w, s.Reason, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func (a *Agent) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", a.serveStatus)
	a.watches.list(mux, "problems", func(*http.Request) (any, error) { return a.snapshot.Load().problems(), nil })
	a.watches.list(mux, "pods", func(*http.Request) (any, error) { return pods(a.book.Attachments()), nil })
	a.watches.list(mux, "nodes", func(*http.Request) (any, error) { return a.snapshot.Load().nodes(), nil })
	a.serveViews(mux)
	a.watches.list(mux, "events", func(*http.Request) (any, error) { return a.events.All(), nil })
	mux.HandleFunc("GET /v1/render", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.snapshot.Load().rendered()) })
	mux.HandleFunc("GET /v1/diff", a.serveDiff)
	mux.HandleFunc("GET /v1/dump", a.serveDump)
	mux.HandleFunc("GET /v1/doctor", a.serveDoctor)
	mux.HandleFunc("POST /v1/cni/add", a.serveCNI("ADD", about(a.add)))
	mux.HandleFunc("POST /v1/cni/del", a.serveCNI("DEL", about(a.del)))
	mux.HandleFunc("POST /v1/cni/check", a.serveCNI("CHECK", about(a.check)))
	mux.HandleFunc("POST /v1/cni/gc", a.serveCNI("GC", a.keep))
	mux.HandleFunc("POST /v1/cni/status", a.serveCNI("STATUS", a.ready))
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The client is gone if this fails; there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}

// serveStatus answers at once, or with ?applied=N when revision N is in the
// kernel.
func (a *Agent) serveStatus(w http.ResponseWriter, r *http.Request) {
	var want int64
	if v := r.URL.Query().Get("applied"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			http.Error(w, "applied="+quote.Of(v)+" is no number", http.StatusBadRequest)
			return
		}
		want = n
	}
	a.loop.Wake()
	s := a.snapshot.Load()
	for s.Applied < want {
		select {
		case <-r.Context().Done():
			return
		case <-s.next:
			s = a.snapshot.Load()
		}
	}
	answer(w, a.status(s))
}

// Sync asks for a turn of the loop and waits for one that began after the call.
func (a *Agent) Sync(ctx context.Context) (*Snapshot, error) {
	n := a.asked.Add(1)
	a.loop.Wake()
	for {
		s := a.snapshot.Load()
		if s.Turn >= n {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.next:
		}
	}
}
