package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/kernel"
	"fairlead.dev/fairlead/internal/world"
)

// mapped makes mappings as Fairlead does: Services select pods, and what the
// features render goes into the kernel. First the agent's line is taken by hand,
// then an agent takes it.
type mapped struct {
	b        *bench
	reserves bool // holds the ports with sockets too

	line       *line
	keeper     *reserve.Keeper
	ports      sorted.List[world.Port] // held
	held       reserve.Held
	less, more *source.Objects // by one Service, which selects one port of one pod
}

func (m *mapped) program(n int) error {
	m.less = mappedObjects(n)
	more := *m.less
	more.Revision++
	more.Services = append(slices.Clone(more.Services), mappedService("one", "one", mappedPort-1, 1))
	m.more, m.keeper = &more, reserve.New()
	m.line = &line{kernel: &kernel.Observer{Capabilities: kernel.Probe()}, builder: source.NewBuilder(peerName(0), feature.Switches(all.Features)...), renderer: feature.NewRenderer(all.Features),
		check: mappingCameOrWent}
	m.line.in.Attachments = &world.Attachments{}
	_, err := m.turn(m.less)
	if err == nil && m.held.Reserved != n && m.reserves {
		err = fmt.Errorf("of %d ports %d are reserved", n, m.held.Reserved)
	}
	return err
}

// mappingCameOrWent is what every turn here is about. Of the problems one is
// expected: so wide a range overlaps with that of NodePorts.
func mappingCameOrWent(_ []world.Problem, changes datapath.Changes) error {
	if changes.Empty() {
		return errors.New("a mapping came or went, and nothing changes")
	}
	return nil
}

func (m *mapped) add() (time.Duration, error)    { return m.turn(m.more) }
func (m *mapped) remove() (time.Duration, error) { return m.turn(m.less) }

// turn takes the line, and returns how long the kernel took.
func (m *mapped) turn(o *source.Objects) (time.Duration, error) {
	m.line.in.Objects = o
	t, err := m.line.turn()
	took := time.Duration(t.apply * float64(time.Millisecond))
	if m.reserves && err == nil {
		var list []world.Port
		for p := range nodeportlocal.Allocated.Of(m.line.in.Allocations).List.All() {
			list = append(list, p.Port)
		}
		ports := sorted.Of(list, world.Port.Compare).Sharing(m.ports, world.Port.Compare)
		m.ports = ports
		began := time.Now()
		m.held = m.keeper.Hold(ports)
		took += time.Since(began)
	}
	return took, err
}

// mappedObjects are a node, and a Service that selects all pods, which makes n
// mappings.
func mappedObjects(n int) *source.Objects {
	o := &source.Objects{Revision: 1}
	none, ports, most, each := "none", v1alpha1.PortRange(mappedRange), mappedMost, mappedEach
	settings := &v1alpha1.AgentConfig{Spec: v1alpha1.AgentConfigSpec{Overlay: &v1alpha1.Overlay{Mode: &none},
		NodePortLocal: &v1alpha1.NodePortLocal{PortRange: &ports, MaxPerPod: &each, MaxPerNamespace: &most}}}
	settings.Name = "default"
	o.Nodes = append(o.Nodes, cluster.Object(peerName(0), []string{mappedPods.String()}, mappedFront.Addr()))
	o.Configs = append(o.Configs, settings)
	var pods []*world.Pod
	for i := range podsMapped {
		labels := map[string]string{"all": "yes"}
		if i == 0 {
			labels["one"] = "yes"
		}
		pods = append(pods, &world.Pod{Key: world.Key{Namespace: "default", Name: fmt.Sprintf("p%03d", i)}, Node: peerName(0),
			Addresses: []netip.Addr{mappedPod(i)}, Labels: world.NewLabels(labels), Local: &world.LocalPod{UID: fmt.Sprint(i)}})
	}
	o.Pods = world.SortedPods(pods...)
	o.Services = []*world.Service{mappedService("all", "all", mappedPort, n/podsMapped)}
	return o
}

// mappedService selects pods by a label, and of them n ports.
func mappedService(name, label string, first, n int) *world.Service {
	s := &world.Service{Key: world.Key{Namespace: "default", Name: name}, Type: "ClusterIP", IPv4: true,
		Selector:    world.NewLabels(map[string]string{label: "yes"}),
		Annotations: world.NewLabels(map[string]string{world.NodePortLocalEnabled: "true"})}
	for i := range n {
		s.Ports = append(s.Ports, world.ServicePort{Name: fmt.Sprint(i), Protocol: unix.IPPROTO_TCP, Port: uint16(first + i), TargetPort: uint16(first + i)})
	}
	return s
}

func (m *mapped) finish(r *mappingResult) error {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	r.Heap, r.Reserved = s.HeapAlloc, m.held.Reserved
	for p := range nodeportlocal.Allocated.Of(m.line.in.Allocations).List.All() {
		if p.PodPort == mappedPort {
			r.Doors = append(r.Doors, p.Number)
		}
	}
	if m.reserves {
		return nil // an agent could not have the ports
	}
	m.annotate()
	var err error
	r.Events, err = m.events(eventsOf(r.Mappings))
	return err
}

// annotate writes on pods what features say, as the cluster would have it by now.
// An agent that has no record yet goes by that.
func (m *mapped) annotate() {
	annotated := map[world.Key]*world.Pod{}
	for n := range m.line.last.Notes.All() {
		pod, local := *n.Pod, *n.Pod.Local
		local.Annotations, pod.Local = world.NewLabels(map[string]string{n.Name: n.Value}), &local
		annotated[pod.Key] = &pod
	}
	pods := world.SortedPods(slices.Collect(maps.Values(annotated))...)
	m.less.Pods, m.more.Pods = pods, pods
}

// eventsOf is how often a Service comes and goes.
func eventsOf(mappings int) int {
	if mappings == mappingEventsOf {
		return 100
	}
	return 25
}

// A changing source is one whose objects change.
type changing struct {
	now     atomic.Pointer[source.Objects]
	changed chan struct{}
}

// Read returns the present objects.
func (c *changing) Read() (*source.Objects, error) { return c.now.Load(), nil }

// Watch tells of each change.
func (c *changing) Watch(ctx context.Context, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
			changed()
		}
	}
}

func (c *changing) set(o *source.Objects) {
	c.now.Store(o)
	c.changed <- struct{}{}
}

// events runs an agent with the same objects, on the kernel as it is, and lets one
// Service come and go. It returns how many milliseconds passed until the kernel
// announced an element that came or went, sorted.
func (m *mapped) events(times int) (millis []float64, err error) {
	dir := m.b.dir("agent")
	objects := &changing{changed: make(chan struct{})}
	objects.now.Store(m.less)
	a, err := agent.New(agent.Config{Node: peerName(0), Objects: objects, StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "agent.sock"),
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return nil, err
	}
	heard, err := hearElements()
	if err != nil {
		return nil, err
	}
	defer heard.Close()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	for i := range times + 1 {
		for _, c := range []struct {
			to   *source.Objects
			what mdlayher.HeaderType
		}{{m.more, unix.NFT_MSG_NEWSETELEM}, {m.less, unix.NFT_MSG_DELSETELEM}} {
			began := time.Now()
			objects.set(c.to)
			at, err := heard.next(c.what)
			if err != nil {
				return nil, err
			}
			if i > 0 { // the first waits for the agent to begin
				millis = append(millis, millisOf(at.Sub(began)))
			}
			time.Sleep(eventPause)
		}
	}
	slices.Sort(millis)
	return millis, nil
}

// eventPause is between events: each stands alone, at no fixed distance from what
// the agent does by itself.
const eventPause = 83 * time.Millisecond

// elementEar hears what the kernel announces of sets.
type elementEar struct{ *mdlayher.Conn }

func hearElements() (elementEar, error) {
	c, err := mdlayher.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return elementEar{}, err
	}
	return elementEar{c}, errors.Join(c.SetReadBuffer(8<<20), c.JoinGroup(unix.NFNLGRP_NFTABLES))
}

// next waits for the next element that comes or goes, and returns when that was
// heard.
func (e elementEar) next(what mdlayher.HeaderType) (time.Time, error) {
	if err := e.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return time.Time{}, err
	}
	for {
		messages, err := e.Receive()
		at := time.Now()
		if errors.Is(err, unix.ENOBUFS) {
			continue // all elements at once, when an agent begins, do not fit; what is heard is one by itself
		}
		if err != nil {
			return at, fmt.Errorf("no element came or went: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|what {
				return at, nil
			}
		}
	}
}
