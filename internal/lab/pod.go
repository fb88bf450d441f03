package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/lab/process"
	"fairlead.dev/fairlead/internal/netns"
)

// A pod is one name of a Pod and what runs under it: it follows the object from
// version to version until that is deleted and everything of it is gone.
type pod struct {
	ref
	lab     Lab
	changed func()
	woken   chan struct{} // holds one: something in want changed

	mu    sync.Mutex // guards what is below
	want  want
	state podState
	stop  context.CancelFunc // of the current life
}

// want is what the pod shall be.
type want struct {
	spec  *corev1.Pod // nil: nothing
	off   bool        // its node has no power
	epoch int         // grows with every change that needs a new life
}

// podState is how the pod is doing.
type podState struct {
	spec      *corev1.Pod // that which lives
	epoch     int
	addresses []netip.Addr
	up        bool // the sandbox stands
	started   time.Time
	services  []*service // as spec.containers; nil for one without command
	waiting   string     // why the sandbox does not stand yet
	err       error      // why it cannot, as far as we know
	gone      bool
	dark      bool // off, and nothing of it runs
}

func newPod(l Lab, r ref, changed func()) *pod {
	return &pod{ref: r, lab: l, changed: changed, woken: make(chan struct{}, 1)}
}

// become sets what the pod shall be; with another spec it begins a new life.
// A pod that is gone becomes nothing any more: it returns false.
func (p *pod) become(spec *corev1.Pod) bool {
	return p.demand(func(w *want) bool {
		same := spec != nil && w.spec != nil && reflect.DeepEqual(spec.Spec, w.spec.Spec)
		w.spec = spec
		return !same
	})
}

// powerOff ends the life at once, as the node's power switch does.
func (p *pod) powerOff() { p.demand(func(w *want) bool { w.off = true; return true }) }

// powerOn begins a new life.
func (p *pod) powerOn() { p.demand(func(w *want) bool { w.off = false; return true }) }

// demand changes what the pod shall be; f says whether that needs a new life.
func (p *pod) demand(f func(*want) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state.gone {
		return false
	}
	if !f(&p.want) {
		return true
	}
	p.want.epoch++
	p.state.dark = false
	if p.stop != nil {
		p.stop()
	}
	select {
	case p.woken <- struct{}{}:
	default:
	}
	return true
}

func (p *pod) now() (want, podState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.want, p.state
}

func (p *pod) set(f func(*podState)) {
	p.mu.Lock()
	f(&p.state)
	p.mu.Unlock()
	p.changed()
}

// run lives one life after the other, until the pod shall be nothing and is.
func (p *pod) run() {
	for {
		p.mu.Lock()
		w := p.want
		ctx, cancel := context.WithCancel(context.Background())
		p.stop = cancel
		p.mu.Unlock()
		switch {
		case w.off:
			p.set(func(s *podState) { s.dark = p.want.off })
			<-p.woken
		case w.spec == nil:
			p.settle(func() error {
				return errors.Join(os.RemoveAll(p.lab.podDir(p.namespace, p.name)), os.RemoveAll(p.lab.statusFile(p.ref)))
			})
			p.set(func(s *podState) { s.gone = p.want.spec == nil })
			if _, s := p.now(); s.gone {
				cancel()
				return
			}
		default:
			p.live(ctx, w)
		}
		cancel()
	}
}

// live is one life: a sandbox, containers in it, and their end.
func (p *pod) live(ctx context.Context, w want) {
	p.set(func(s *podState) { *s = podState{spec: w.spec, epoch: w.epoch, waiting: "the sandbox is being made"} })
	box := newSandbox(p.lab, w.spec)
	if p.wire(ctx, w.spec, box) {
		services := p.services(w.spec)
		p.set(func(s *podState) { s.services, s.up, s.started, s.waiting, s.err = services, true, time.Now(), "", nil })
		for _, s := range services {
			if s != nil {
				s.start()
			}
		}
		<-ctx.Done()
	}
	p.die(w.spec, box)
}

// wire makes the sandbox. It does not give up before ctx is done.
func (p *pod) wire(ctx context.Context, spec *corev1.Pod, box *sandbox) bool {
	if err := os.MkdirAll(p.lab.podDir(p.namespace, p.name), 0o755); err != nil {
		p.set(func(s *podState) { s.err = err })
		<-ctx.Done()
		return false
	}
	if spec.Spec.HostNetwork {
		return true
	}
	return p.insist(ctx, func(ctx context.Context) error {
		if !netns.Alive(box.netns()) {
			if err := box.open(); err != nil {
				return err
			}
		}
		addresses, err := box.add(ctx)
		if err == nil {
			p.set(func(s *podState) { s.addresses = addresses })
		} else if !isTryAgain(err) && ctx.Err() == nil {
			err = errors.Join(err, box.del(ctx)) // as the CNI specification asks
		}
		return err
	})
}

// insist does f again and again until it succeeds or ctx is done.
func (p *pod) insist(ctx context.Context, f func(context.Context) error) bool {
	for wait := firstWait / 8; ; wait = min(2*wait, longestWait/5) {
		err := f(ctx)
		if err == nil || ctx.Err() != nil {
			return err == nil
		}
		p.set(func(s *podState) {
			if s.waiting = err.Error(); !isTryAgain(err) {
				s.err = err
			}
		})
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			pause.Stop()
			return false
		case <-pause.C:
		}
	}
}

// defaultGrace is how long the processes of a pod may take to end.
const defaultGrace = time.Second

// die ends what lives of the pod. Without power nobody is asked.
func (p *pod) die(spec *corev1.Pod, box *sandbox) {
	w, state := p.now()
	grace := defaultGrace
	if s := spec.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	if w.off {
		grace = 0
	}
	var wait sync.WaitGroup
	for _, s := range state.services {
		if s != nil {
			wait.Go(func() { s.end(grace) })
		}
	}
	wait.Wait()
	p.settle(func() error { return process.Signal(p.lab.podMarker(p.namespace, p.name), unix.SIGKILL) })
	if !spec.Spec.HostNetwork {
		if w.off { // the plugin comes too late for the namespace, as on a machine
			p.settle(func() error { return netns.Delete(box.netns()) })
		}
		p.set(func(s *podState) { s.waiting = "the sandbox is being taken down" })
		p.insist(context.Background(), box.del)
		p.settle(func() error { return netns.Delete(box.netns()) })
	}
	p.set(func(s *podState) { *s = podState{spec: spec, epoch: state.epoch} })
}

// settle does what is not expected to fail, and shows it when it does.
func (p *pod) settle(f func() error) {
	if err := f(); err != nil {
		p.set(func(s *podState) { s.err = err })
	}
}

// services are the pod's containers as things to run.
func (p *pod) services(spec *corev1.Pod) []*service {
	out := make([]*service, len(spec.Spec.Containers))
	for i, c := range spec.Spec.Containers {
		if len(c.Command)+len(c.Args) == 0 {
			continue
		}
		out[i] = &service{changed: p.changed, again: restarts(spec.Spec.RestartPolicy), command: process.Command{
			Args: append(append([]string(nil), c.Command...), c.Args...),
			Env:  p.environment(spec, c), Dir: c.WorkingDir, Netns: p.lab.namespaceOf(spec),
			Log: p.lab.containerLog(p.namespace, p.name, c.Name), Records: p.lab.records(),
		}}
	}
	return out
}

func restarts(policy corev1.RestartPolicy) func(int) bool {
	switch policy {
	case corev1.RestartPolicyNever:
		return never
	case corev1.RestartPolicyOnFailure:
		return onFailure
	default:
		return always
	}
}

func (p *pod) environment(spec *corev1.Pod, c corev1.Container) []string {
	env := p.lab.environment(p.lab.nodeMarker(spec.Spec.NodeName), p.lab.podMarker(p.namespace, p.name), "HOSTNAME="+p.name)
	for _, e := range c.Env {
		env = append(env, fmt.Sprintf("%s=%s", e.Name, e.Value))
	}
	return env
}

// namespaceOf is the path of the namespace in which the pod's processes run.
func (l Lab) namespaceOf(spec *corev1.Pod) string {
	if spec.Spec.HostNetwork {
		return l.net(nil).Node(spec.Spec.NodeName)
	}
	return l.podNetns(spec.Namespace, spec.Name)
}
