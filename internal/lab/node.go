package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/lab/process"
	"fairlead.dev/fairlead/internal/lab/wire"
)

// A node is a machine of the lab: a namespace and an agent in it.
type node struct {
	plan.Node
	lab     Lab
	net     *wire.Net
	index   int
	changed func()

	doing sync.Mutex // held for the whole of an operation, so that they queue

	mu     sync.Mutex // guards what is below
	agent  *service   // nil: stopped by the user
	why    string     // the agent is stopped
	frozen bool
	away   bool // what it reads are copies
}

// metricsAddress is where every agent shows its metrics, in its own namespace.
const metricsAddress = "127.0.0.1:9468"

// boot makes the machine and starts its agent.
func (n *node) boot() error {
	if err := n.net.MakeNode(n.index); err != nil {
		return err
	}
	if err := os.MkdirAll(n.lab.stateDir(n.Name), 0o755); err != nil {
		return err
	}
	if !n.isAway() {
		if err := n.sourceBack(); err != nil {
			return err
		}
	}
	return n.startAgent()
}

// startAgent starts the agent unless it is running.
func (n *node) startAgent() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen {
		return fmt.Errorf("node %s is frozen: thaw it first", n.Name)
	}
	if n.agent != nil {
		return nil
	}
	dir := n.lab.nodeDir(n.Name)
	n.agent = &service{again: always, changed: n.changed, command: process.Command{
		Args: []string{
			filepath.Join(n.lab.bin(), "fairlead"), "agent", "--node", n.Name, "--objects", n.source("objects"), "--reports", n.source("reports"),
			"--state-dir", filepath.Join(dir, "state"), "--socket", n.lab.AgentSocket(n.Name), "--metrics-address", metricsAddress,
		},
		Env:   n.lab.environment(n.lab.nodeMarker(n.Name)),
		Netns: n.net.Node(n.Name), Log: n.lab.agentLog(n.Name), Records: n.lab.records(),
	}}
	n.agent.start()
	return nil
}

// agentGrace is how long an agent may take to end.
const agentGrace = 10 * time.Second

// endAgent ends the agent and keeps it from being started again.
func (n *node) endAgent(grace time.Duration, why string) error {
	n.mu.Lock()
	if n.frozen && grace > 0 {
		n.mu.Unlock()
		return fmt.Errorf("node %s is frozen: thaw it first", n.Name)
	}
	a := n.agent
	n.agent, n.why = nil, why
	n.mu.Unlock()
	if a != nil {
		a.end(grace)
	}
	return nil
}

// freeze stops every process of the node and its traffic; its link stays up.
func (n *node) freeze() error {
	n.setFrozen(true)
	stop := func() error { return process.Signal(n.lab.nodeMarker(n.Name), unix.SIGSTOP) }
	return errors.Join(n.net.Silence(n.index), stop(), stop()) // twice: one may have forked meanwhile
}

// thaw undoes freeze.
func (n *node) thaw() error {
	n.setFrozen(false)
	return errors.Join(process.Signal(n.lab.nodeMarker(n.Name), unix.SIGCONT), n.net.Unsilence(n.index))
}

func (n *node) setFrozen(yes bool) {
	n.mu.Lock()
	n.frozen = yes
	n.mu.Unlock()
	n.changed()
}

// plug gives the carrier back. A frozen node stays silent.
func (n *node) plug() error {
	err := n.net.Plug(n.index)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil && n.frozen {
		err = n.net.Silence(n.index)
	}
	return err
}

// running returns what the agent's process is doing. Without one, why says
// what became of it.
func (n *node) running() (pid int, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.agent == nil {
		return 0, n.why
	}
	s := n.agent.now()
	switch {
	case s.pid != 0 && n.frozen:
		return s.pid, "the node is frozen"
	case s.pid != 0:
		return s.pid, ""
	case s.err != nil:
		return 0, s.err.Error()
	case s.exitCode != nil:
		return 0, fmt.Sprintf("the agent ended with exit code %d and is started again; see %s", *s.exitCode, n.lab.Command("logs node/"+n.Name))
	default:
		return 0, "the agent is starting"
	}
}

// answerPatience is how long an agent may take to answer for a status.
const answerPatience = 2 * time.Second

// status is what is known of the agent.
func (n *node) status(ctx context.Context) AgentStatus {
	pid, why := n.running()
	out := AgentStatus{PID: pid, Reason: why}
	if why != "" {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	a, err := askAgent(ctx, n.lab.AgentSocket(n.Name))
	if err != nil {
		out.Reason = fmt.Sprintf("the agent does not answer: %v", err)
		return out
	}
	return AgentStatus{PID: pid, Ready: a.Ready, Reason: a.Reason, Observed: a.Observed, Applied: a.Applied, Problems: a.Problems, Metrics: a.Metrics}
}

// retryEvery is how often an agent that cannot be reached is tried again.
const retryEvery = 20 * time.Millisecond

// await returns when the agent has applied the revision; when ctx ends first,
// it says why not.
func (n *node) await(ctx context.Context, revision int64) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		_, why := n.running()
		err := errors.New(why)
		if why == "" {
			// A turn is bounded: the node may be frozen meanwhile.
			turn, cancel := context.WithTimeout(ctx, answerPatience)
			err = awaitApplied(turn, n.lab.AgentSocket(n.Name), revision)
			cancel()
			if err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return n.lag(err, revision)
		case <-tick.C:
		}
	}
}

// lag says why the agent has not applied the revision.
func (n *node) lag(err error, revision int64) error {
	if n.isAway() {
		return errors.New("its source is away; give it back with " + n.lab.Command("source "+n.Name+" back"))
	}
	if s := n.status(context.Background()); s.Reason != "" {
		return errors.New(s.Reason)
	} else if s.PID != 0 {
		return fmt.Errorf("applied revision %d of %d", s.Applied, revision)
	}
	return err
}
