package lab

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab/process"
)

// Waits before a process that ended is started again: doubling, and back to the
// first one when it ran for a while.
const (
	firstWait   = 200 * time.Millisecond
	longestWait = 10 * time.Second
)

// A service is a command that is run, and run again as its policy says.
type service struct {
	command process.Command
	again   func(exitCode int) bool
	changed func() // called, without locks, after every change of the state

	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // guards what is below
	state serviceState
	grace time.Duration
	proc  *process.Process // nil while none runs
}

// serviceState is how a service is doing.
type serviceState struct {
	pid      int  // 0 while it does not run
	exitCode *int // of the last run, if one has ended
	restarts int
	begun    bool // it was started at least once
	ended    bool // it will not run again
	err      error
}

// always and never are restart policies.
func always(int) bool { return true }
func never(int) bool  { return false }

func onFailure(exitCode int) bool { return exitCode != 0 }

// start runs the service until end is called or the policy says so.
func (s *service) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan struct{})
	go func() {
		defer close(s.done)
		s.run(ctx)
		s.set(func(st *serviceState) { st.ended = true })
	}()
}

// end asks the process to end, makes it when grace is over, and returns when it
// has.
func (s *service) end(grace time.Duration) {
	s.mu.Lock()
	s.grace = grace
	s.mu.Unlock()
	s.cancel()
	<-s.done
}

func (s *service) now() serviceState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// signal sends sig to the process, if one runs.
func (s *service) signal(sig unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.Signal(sig)
	}
}

func (s *service) set(f func(*serviceState)) {
	s.mu.Lock()
	f(&s.state)
	s.mu.Unlock()
	s.changed()
}

func (s *service) run(ctx context.Context) {
	wait := firstWait
	for {
		began := time.Now()
		code := s.once(ctx)
		if ctx.Err() != nil || !s.again(code) {
			return
		}
		if time.Since(began) > longestWait {
			wait = firstWait
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		wait = min(2*wait, longestWait)
		s.set(func(st *serviceState) { st.restarts++ })
	}
}

// notStarted is a shell's exit code for a command that cannot be run.
const notStarted = 127

// once runs the command once and returns its exit code.
func (s *service) once(ctx context.Context) int {
	p, err := process.Start(s.command)
	code := notStarted
	if err == nil {
		s.set(func(st *serviceState) { s.proc, st.pid, st.begun, st.err = p, p.PID, true, nil })
		select {
		case <-p.Done():
			p.Signal(unix.SIGKILL) // what it left behind in its group
		case <-ctx.Done():
			s.mu.Lock()
			grace := s.grace
			s.mu.Unlock()
			if grace > 0 {
				stop, cancel := context.WithTimeout(context.Background(), grace)
				err = p.Stop(stop)
				cancel()
			} else {
				err = p.Kill()
			}
		}
		if err == nil {
			code = p.ExitCode()
		}
	}
	s.set(func(st *serviceState) { s.proc, st.pid, st.exitCode, st.begun, st.err = nil, 0, &code, true, err })
	return code
}
