package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/lab/process"
)

// A Step is a line of what the daemon tells the command that started it.
type Step struct {
	Progress string `json:"progress,omitempty"`
	Error    string `json:"error,omitempty"`
	Up       bool   `json:"up,omitempty"` // the network stands and the agents were started
}

// Serve is the daemon: it makes the lab that its directory describes, tells
// steps how far it is, and answers on the lab's socket until it is killed.
func Serve(l Lab, steps io.WriteCloser, log *slog.Logger) error {
	tell := func(s Step) { _ = json.NewEncoder(steps).Encode(s) } // nobody may be listening any more
	err := serve(l, tell, func() { steps.Close() }, log)
	tell(Step{Error: err.Error()})
	return err
}

func serve(l Lab, tell func(Step), told func(), log *slog.Logger) error {
	config, err := os.ReadFile(l.configFile())
	if err != nil {
		return err
	}
	p, problems := plan.Parse(l.configFile(), config)
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	listener, err := listen(l.socket())
	if err != nil {
		return err
	}
	c := newCluster(l, p, log)
	if err := c.bring(func(s string) { tell(Step{Progress: s}) }); err != nil {
		return err
	}
	log.Info("lab is up", "name", l.Name)
	tell(Step{Up: true})
	told()
	server := &http.Server{Handler: http.MaxBytesHandler(c.handler(), maxBody), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-c.ended
		server.Close()
	}()
	return server.Serve(listener)
}

// listen makes a socket that only its owner can use.
func listen(path string) (net.Listener, error) {
	// Of all that this process makes meanwhile, only the better: it has just begun.
	defer unix.Umask(unix.Umask(0o177))
	return net.Listen("unix", path)
}

// A request is what the command line sends with apply, delete and wait.
type request struct {
	Files []Manifest    `json:"files,omitempty"`
	Wait  time.Duration `json:"wait"` // 0: not at all
}

func (c *cluster) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/apply", c.change(c.apply))
	mux.HandleFunc("POST /v1/delete", c.change(c.remove))
	mux.HandleFunc("POST /v1/wait", answer(func(r *http.Request, body request) (any, error) {
		ctx, cancel := context.WithTimeout(r.Context(), body.Wait)
		defer cancel()
		return Result{Lagging: c.awaitAll(ctx)}, nil
	}))
	mux.HandleFunc("GET /v1/status", answer(func(r *http.Request, _ request) (any, error) {
		return c.status(r.Context()), nil
	}))
	mux.HandleFunc("GET /v1/objects/{kind}", answer(func(r *http.Request, _ request) (any, error) {
		k, err := findKind(r.PathValue("kind"))
		if err != nil {
			return nil, &refusal{http.StatusBadRequest, err.Error()}
		}
		return c.get(r.Context(), k, r.FormValue("namespace"), r.FormValue("name"))
	}))
	// Whoever takes the lab down asks for this first: only a parent can collect
	// what is left of a process.
	mux.HandleFunc("POST /v1/end", answer(func(r *http.Request, _ request) (any, error) {
		defer c.end()
		return struct{}{}, process.EndChildren(r.Context())
	}))
	mux.HandleFunc("POST /v1/nodes/{node}/{verb}", answer(func(r *http.Request, _ request) (any, error) {
		n, err := c.node(r.PathValue("node"))
		if err != nil {
			return nil, &refusal{http.StatusNotFound, err.Error()}
		}
		n.doing.Lock()
		defer n.doing.Unlock()
		c.log.Info("node", "name", n.Name, "do", r.PathValue("verb"))
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), verbPatience)
		defer cancel()
		return struct{}{}, c.do(ctx, n, r.PathValue("verb"))
	}))
	return mux
}

// do does to a node what the verb says.
func (c *cluster) do(ctx context.Context, n *node, verb string) error {
	switch verb {
	case "agent-start":
		return n.startAgent()
	case "agent-stop":
		return n.endAgent(agentGrace, "the agent was stopped; start it with "+c.lab.Command("agent start "+n.Name))
	case "agent-kill":
		return n.endAgent(0, "the agent was killed; start it with "+c.lab.Command("agent start "+n.Name))
	case "freeze":
		c.signalPods(n, unix.SIGSTOP)
		return n.freeze()
	case "thaw":
		c.signalPods(n, unix.SIGCONT)
		return n.thaw()
	case "reboot":
		return c.reboot(ctx, n)
	case "source-away":
		c.mu.Lock()
		defer c.mu.Unlock()
		return n.sourceAway()
	case "source-back":
		return n.sourceBack()
	case "up":
		return n.plug()
	case "down":
		return n.net.Unplug(n.index)
	}
	return &refusal{http.StatusNotFound, fmt.Sprintf("nothing is called %q", verb)}
}

// change serves apply or delete. A client that goes away does not undo it.
func (c *cluster) change(do func([]Manifest) (Result, error)) http.HandlerFunc {
	return answer(func(r *http.Request, body request) (any, error) {
		result, err := do(body.Files)
		if err != nil || body.Wait == 0 {
			return result, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), body.Wait)
		defer cancel()
		c.realise(ctx, &result)
		return result, nil
	})
}

// answer decodes the request and encodes what f returns.
func answer(f func(*http.Request, request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body request
		if r.Method == http.MethodPost && r.ContentLength != 0 {
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		result, err := f(r, body)
		var refused *refusal
		switch {
		case errors.As(err, &refused):
			http.Error(w, refused.message, refused.status)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(result) // the client has gone
		}
	}
}

// readSteps reads what the daemon tells until it is up or ends, or ctx does.
func readSteps(ctx context.Context, r *os.File, progress func(string)) error {
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })() // fails only when it is closed
	d := json.NewDecoder(r)
	last := "its beginning"
	for {
		var s Step
		switch err := d.Decode(&s); {
		case ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("the daemon has not made it in time; it was at: %s", last)
		case err != nil:
			return errors.New("the daemon ended")
		case s.Error != "":
			return errors.New(s.Error)
		case s.Up:
			return nil
		default:
			last = s.Progress
			progress(last)
		}
	}
}
