package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"fairlead.dev/fairlead/internal/lab/plan"
)

// stepsFD is the file descriptor on which a daemon finds the pipe for its steps.
const stepsFD = 3

// Up makes the lab that the file describes and returns when every agent is
// ready, or when ctx ends. What it could not make whole it takes down again;
// a lab that stands, but is not ready, stays to be looked at.
func (l Lab) Up(ctx context.Context, config []byte, progress func(string)) error {
	p, problems := plan.Parse("lab.yaml", config)
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	if err := l.fits(p); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Base, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(l.Dir(), 0o700); err != nil {
		return l.taken(err)
	}
	making, enough := makingOf(ctx)
	defer enough()
	err := l.startDaemon(making, config, progress)
	if err != nil {
		log := l.lastLines(l.daemonLog())
		return errors.Join(fmt.Errorf("lab %s does not come up: %w%s", l.Name, err, log), l.Down(context.WithoutCancel(ctx)))
	}
	progress("agents")
	return l.ready(ctx)
}

// makingPatience bounds how long a daemon may take to make a lab, apart from how
// long its agents may take to be ready.
const makingPatience = 2 * time.Minute

// makingOf is the time that there is to make a lab: it ends when somebody
// interrupts ctx, and not with ctx's deadline, which is that of the agents.
func makingOf(ctx context.Context) (context.Context, context.CancelFunc) {
	making, enough := context.WithTimeout(context.WithoutCancel(ctx), makingPatience)
	context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			enough()
		}
	})
	return making, enough
}

// taken says what is in the way of a new lab.
func (l Lab) taken(err error) error {
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	if c, err := net.DialTimeout("unix", l.socket(), answerPatience); err == nil {
		c.Close()
		return fmt.Errorf("lab %s is up already; take it down with %s", l.Name, l.Command("down"))
	}
	return fmt.Errorf("%s is left over from a lab that was not taken down, or is coming up; remove it with %s", l.Dir(), l.Command("down"))
}

// startDaemon starts the lab's daemon and returns when it has made the lab.
func (l Lab) startDaemon(ctx context.Context, config []byte, progress func(string)) error {
	if err := os.WriteFile(l.configFile(), config, 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(l.daemonLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(self, "lab", "daemon", "--name", l.Name)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", log, log, []*os.File{w}
	cmd.Env = append(os.Environ(), l.marker(), DirVariable+"="+l.Base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	if err := cmd.Process.Release(); err != nil {
		return err
	}
	return readSteps(ctx, r, progress)
}

// Daemon runs the daemon of a lab that Up has begun.
func Daemon(l Lab) error {
	steps := os.NewFile(stepsFD, "steps")
	if steps == nil {
		return errors.New("the daemon is started by fairlead lab up")
	}
	syscall.CloseOnExec(stepsFD)
	return Serve(l, steps, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// readyEvery is how often a lab is asked whether it is ready.
const readyEvery = 20 * time.Millisecond

// ready waits until every agent has applied everything and says it is ready.
func (l Lab) ready(ctx context.Context) error {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		result, err := l.Wait(ctx)
		if err != nil {
			return err
		}
		if len(result.Lagging) > 0 {
			return l.notReady(result.Lagging)
		}
		status, err := l.Status(ctx)
		if ctx.Err() != nil {
			return l.notReady([]string{"it was not waited for any longer"})
		}
		if err != nil {
			return err
		}
		if status.Ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return l.notReady(status.waitingFor())
		case <-tick.C:
		}
	}
}

func (l Lab) notReady(why []string) error {
	return fmt.Errorf("the lab stands, but is not ready: %s\nlook at it with %s, remove it with %s",
		strings.Join(why, "; "), l.Command("status"), l.Command("down"))
}

func (s Status) waitingFor() []string {
	var out []string
	for _, n := range s.Nodes {
		if !n.Agent.Ready {
			out = append(out, fmt.Sprintf("node %s: %s", n.Name, n.Agent.Reason))
		}
	}
	return out
}

// lastLines is the end of a log, to be shown with an error.
func (l Lab) lastLines(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return "\n" + strings.Join(lines[max(0, len(lines)-10):], "\n")
}
