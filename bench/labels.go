package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// One pod's label, where many pods are selected by many: what building and rendering cost.
const (
	labelPods    = 100_000 // of the cluster,
	labelLocal   = 250     // of them this node's
	labelSelects = 10_000  // Services that select pods, in as many pairs of namespace and labels
	labelTimes   = 200     // the label changes
	labelAtMost  = 5 * time.Millisecond
	labelName    = "one changed label, 100000 pods, 10000 selections"
)

// A labelResult is what it came to, in milliseconds, sorted.
type labelResult struct {
	Changes []float64 `json:"changeMillis"` // Build and Render
	CPU     float64   `json:"cpuMillis"`    // of each, on average, with collecting garbage
}

func (b *bench) measureLabel() *labelResult {
	if !b.chosen(labelName) {
		return nil
	}
	b.progress("%s", labelName)
	objects := labelObjects()
	builder, renderer := source.NewBuilder(peerName(0), feature.Switches(all.Features)...), feature.NewRenderer(all.Features)
	in := source.Inputs{Objects: objects[0], Attachments: &world.Attachments{}, Kernel: source.PlainKernel(&world.Node{Name: peerName(0)})}
	var last feature.Rendered
	r := &labelResult{}
	var used time.Duration
	for i := range 2 + labelTimes {
		in.Objects = objects[i%2]
		before, began := cpu(), time.Now()
		w, _ := builder.Build(in)
		rendered := renderer.Render(w)
		took, by := time.Since(began), cpu()-before
		if i > 0 && rendered.Results["nodeportlocal"] == last.Results["nodeportlocal"] {
			b.Fatalf("%v", errors.New("a label changed, and the same is rendered"))
		}
		if in.Allocations, last = rendered.Allocations, rendered; i > 1 {
			r.Changes, used = append(r.Changes, millisOf(took)), used+by
		}
	}
	slices.Sort(r.Changes)
	r.CPU = millisOf(used / labelTimes)
	return r
}

// labelObjects are two that differ in a label of one of the node's pods: another Service
// selects it.
func labelObjects() (out [2]*source.Objects) {
	o := &source.Objects{Revision: 1}
	o.Nodes = append(o.Nodes, cluster.Object(peerName(0), []string{"10.0.0.0/16"}, peerAddress(0)))
	for i := range labelSelects {
		s := mappedService(fmt.Sprintf("s%05d", i), "", mappedPort, 1)
		s.Namespace, s.Selector = fmt.Sprintf("n%02d", i%100), world.NewLabels(map[string]string{"app": fmt.Sprint("a", i)})
		o.Services = append(o.Services, s)
	}
	slices.SortFunc(o.Services, func(s, t *world.Service) int { return s.Compare(t.Key) })
	pod := func(i, app int) *world.Pod {
		p := &world.Pod{Key: world.Key{Namespace: fmt.Sprintf("n%02d", i%100), Name: fmt.Sprintf("p%06d", i)}, Node: peerName(1 + i%1000),
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
			Labels:    world.NewLabels(map[string]string{"app": fmt.Sprint("a", app), "tier": "front", "pod-template-hash": fmt.Sprint(app)})}
		if i < labelLocal {
			p.Node, p.Local = peerName(0), &world.LocalPod{UID: fmt.Sprint(i)}
		}
		return p
	}
	pods := make([]*world.Pod, labelPods)
	for i := range pods {
		pods[i] = pod(i, i%labelSelects)
	}
	changed := pods[labelLocal/2]
	o.Pods = world.SortedPods(pods...)
	other := *o
	other.Revision, other.Pods = 2, o.Pods.With([]*world.Pod{changed}, []*world.Pod{pod(labelLocal/2, labelLocal/2+100)}, world.ComparePods)
	return [2]*source.Objects{o, &other}
}

func printLabel(w io.Writer, r *labelResult) error {
	fmt.Fprintf(w, "\nOne pod's label among %d pods and %d selections: Build and Render in ms, %d times\n", labelPods, labelSelects, labelTimes)
	t := newTable(w)
	t.line("p50", "p99", "CPU", "goal")
	p99 := quantile(r.Changes, 0.99)
	t.line(ms(quantile(r.Changes, 0.5)), ms(p99), ms(r.CPU), fmt.Sprintf("%v: %s", millisOf(labelAtMost), verdict(p99 <= millisOf(labelAtMost))))
	return t.Flush()
}
