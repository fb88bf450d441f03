package lab

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/lab/echo"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

// A Manifest is a file of documents.
type Manifest struct {
	Source  string `json:"source"`
	Content []byte `json:"content"`
}

// A Result is what became of applied or deleted manifests.
type Result struct {
	Revision int64           `json:"revision"` // of the objects, afterwards
	Objects  []string        `json:"objects"`
	Rejected []world.Problem `json:"rejected"` // documents that are no objects, or have no usable name
	Problems []world.Problem `json:"problems"` // of the objects named
	Lagging  []string        `json:"lagging"`  // who did not follow in time, and why

	sources map[string]string // the file that each object came from
}

// read returns the objects in manifests.
func (r *Result) read(files []Manifest) []*object {
	r.sources = map[string]string{}
	var out []*object
	for _, f := range files {
		docs, problems := manifest.Parse(f.Source, f.Content)
		r.Rejected = append(r.Rejected, problems...)
		for _, d := range docs {
			o, problem := newObject(d)
			switch {
			case problem == nil:
				out = append(out, o)
				r.sources[o.String()] = d.Source
				r.Objects = append(r.Objects, o.String())
			case problem.Field == "kind": // an object, but not for us
				r.Problems = append(r.Problems, *problem)
			default:
				r.Rejected = append(r.Rejected, *problem)
			}
		}
	}
	return out
}

// apply stores the objects in the manifests.
func (c *cluster) apply(files []Manifest) (Result, error) {
	var r Result
	objects := r.read(files)
	c.mu.Lock()
	err := c.put(objects)
	r.Revision = c.store.revision
	c.mu.Unlock()
	c.changed()
	return r, err
}

// put stores the objects and lets the pods among them become what they say.
// The caller holds c.mu.
func (c *cluster) put(objects []*object) error {
	var changed []*object
	for _, o := range c.withNamespaces(objects) {
		c.complete(o)
		if c.store.admit(o) {
			changed = append(changed, o)
			c.store.objects[o.ref] = o // what follows may count on it
		}
	}
	if err := c.store.write(changed, nil); err != nil {
		return err
	}
	for _, o := range changed {
		if o.kind == "Pod" {
			c.follow(o)
		}
	}
	return nil
}

// withNamespaces puts, before the objects, the namespaces that they name and
// that are not there.
func (c *cluster) withNamespaces(objects []*object) []*object {
	var missing []*object
	has := func(list []*object, r ref) bool {
		return slices.ContainsFunc(list, func(o *object) bool { return o.ref == r })
	}
	for _, o := range objects {
		r := ref{kind: "Namespace", name: o.namespace}
		if o.namespace != "" && c.store.objects[r] == nil && !has(objects, r) && !has(missing, r) {
			missing = append(missing, &object{ref: r, fields: map[string]any{
				"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": o.namespace},
			}})
		}
	}
	return append(missing, objects...)
}

// complete fills in what a scheduler would, and keeps what it once chose.
func (c *cluster) complete(o *object) {
	old := c.store.objects[o.ref]
	keep := func(keys ...string) {
		for _, key := range keys {
			if _, there := child(o.fields, "spec")[key]; !there && old != nil {
				if v, had := child(old.fields, "spec")[key]; had {
					child(o.fields, "spec")[key] = v
				}
			}
		}
	}
	switch o.kind {
	case "Node":
		keep("podCIDR", "podCIDRs")
	case "Pod":
		keep("nodeName")
		if o.nodeName() == "" {
			child(o.fields, "spec")["nodeName"] = c.schedule(c.store.list("Pod"))
		}
	}
}

// follow lets the pod become what the object says. A change of anything but
// the metadata begins a new life. The caller holds c.mu.
func (c *cluster) follow(o *object) {
	spec := &corev1.Pod{}
	o.into(spec)
	if _, err := c.node(spec.Spec.NodeName); err != nil {
		if p := c.pods[o.ref]; p != nil {
			p.become(nil)
		}
		return
	}
	if p := c.pods[o.ref]; p != nil && p.become(spec) {
		return
	}
	p := c.newPod(o.ref)
	c.pods[o.ref] = p
	p.become(spec)
	go p.run()
}

// newPod is a pod whose status is written to a file whenever it changes.
func (c *cluster) newPod(r ref) *pod {
	var p *pod
	var writing sync.Mutex
	p = newPod(c.lab, r, func() {
		writing.Lock()
		c.report(p)
		writing.Unlock()
		c.changed()
	})
	return p
}

// remove deletes the objects that the manifests name.
func (c *cluster) remove(files []Manifest) (Result, error) {
	var r Result
	objects := r.read(files)
	c.mu.Lock()
	var refs []ref
	for _, o := range objects {
		refs = append(refs, o.ref)
		for other := range c.store.objects {
			if o.kind == "Namespace" && other.namespace == o.name {
				refs = append(refs, other)
				r.Objects = append(r.Objects, other.String())
			}
		}
	}
	refs = slices.DeleteFunc(refs, func(r ref) bool { return c.store.objects[r] == nil })
	err := c.store.write(nil, refs)
	for _, r := range refs {
		if p := c.pods[r]; p != nil {
			p.become(nil)
		}
	}
	r.Revision = c.store.revision
	c.mu.Unlock()
	c.changed()
	return r, err
}

// realise waits until the agents that run and read their objects have applied the result's revision
// and its pods are what they shall be. It notes who did not follow, and what
// is wrong with the objects.
func (c *cluster) realise(ctx context.Context, r *Result) {
	var nodes []*node
	for _, n := range c.nodes {
		if _, why := n.running(); why == "" && !n.isAway() {
			nodes = append(nodes, n)
		}
	}
	var pods []*pod
	for _, p := range c.podList() {
		if slices.Contains(r.Objects, p.String()) {
			pods = append(pods, p)
		}
	}
	r.Lagging = c.await(ctx, nodes, pods, r.Revision)
	r.Problems = append(r.Problems, c.problems(ctx, r.sources)...)
}

// await waits until the nodes have applied the revision and the pods are what
// they shall be, and names those that did not when ctx ended.
func (c *cluster) await(ctx context.Context, nodes []*node, pods []*pod, revision int64) []string {
	lags := make([]string, len(nodes))
	var wait sync.WaitGroup
	for i, n := range nodes {
		wait.Go(func() {
			if err := n.await(ctx, revision); err != nil {
				lags[i] = fmt.Sprintf("node %s: %v", n.Name, err)
			}
		})
	}
	for _, p := range pods {
		if !c.until(ctx, func() bool { ok, _ := p.settled(); return ok }) {
			_, why := p.settled()
			lags = append(lags, fmt.Sprintf("%s: %s", p, why))
		}
	}
	wait.Wait()
	return slices.DeleteFunc(lags, func(s string) bool { return s == "" })
}

// awaitAll waits for everything written so far.
func (c *cluster) awaitAll(ctx context.Context) []string {
	c.mu.Lock()
	revision := c.store.revision
	c.mu.Unlock()
	lags := c.await(ctx, c.nodes, c.podList(), revision)
	for _, h := range c.plan.Hosts {
		if err := awaitListening(ctx, c.net.Host(h.Name)); err != nil {
			lags = append(lags, fmt.Sprintf("host %s: %v", h.Name, err))
		}
	}
	return lags
}

// awaitListening waits for the echo server in the namespace.
func awaitListening(ctx context.Context, path string) error {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		err := netns.Do(path, func() error {
			conn, err := net.DialTimeout("tcp", "127.0.0.1"+echo.Default.TCP[0], answerPatience)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// problems collects what agents and pods say about the objects in sources,
// whose values are the files they came from. Several agents that say the same
// are one.
func (c *cluster) problems(ctx context.Context, sources map[string]string) []world.Problem {
	var all []world.Problem
	for _, n := range c.nodes {
		if _, why := n.running(); why != "" {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerPatience)
		said, err := askProblems(ctx, c.lab.AgentSocket(n.Name))
		cancel()
		if err != nil {
			c.log.Warn("agent does not tell its problems", "node", n.Name, "err", err)
		}
		all = append(all, said...)
	}
	for _, p := range c.podList() {
		if problem, ok := p.problem(); ok {
			all = append(all, problem)
		}
	}
	for _, o := range c.homeless() {
		all = append(all, world.Problem{Object: o.String(), Field: "spec.nodeName",
			Reason: fmt.Sprintf("there is no node %q", o.nodeName()), Hint: "nodes are " + strings.Join(c.nodeNames(), ", ")})
	}
	var out []world.Problem
	for _, p := range all {
		source, ours := sources[p.Object]
		p.Source = source
		if ours && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// homeless are the pods on nodes that there are not.
func (c *cluster) homeless() []*object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(c.store.list("Pod"), func(o *object) bool {
		_, err := c.node(o.nodeName())
		return err == nil
	})
}

// nodeName is the node that a Pod names.
func (o *object) nodeName() string {
	name, _ := child(o.fields, "spec")["nodeName"].(string)
	return name
}
