package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/controller"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/source/dir"
)

// list is several objects, as an API server shows them.
type list struct {
	APIVersion string           `json:"apiVersion"`
	Kind       string           `json:"kind"`
	Items      []map[string]any `json:"items"`
}

// get returns the object as an API server shows it, or with name "" all of the
// kind; with namespace "" of every namespace.
func (c *cluster) get(ctx context.Context, k kind, namespace, name string) (any, error) {
	items := []map[string]any{}
	for _, o := range c.collect(k) {
		if (name == "" || o.name == name) && (namespace == "" || o.namespace == namespace) {
			items = append(items, c.withStatus(ctx, o))
		}
	}
	if name == "" {
		return list{"v1", "List", items}, nil
	}
	if len(items) == 0 {
		return nil, &refusal{404, fmt.Sprintf("there is no %s", ref{k.name, namespace, name})}
	}
	return items[0], nil
}

func (c *cluster) collect(k kind) []*object {
	switch k {
	case nodeReport:
		return c.reportsOfNodes()
	case nodeEvent:
		return c.eventsOfNodes()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store.list(k.name)
}

// reportsOfNodes are the FairleadNodes that agents have written.
func (c *cluster) reportsOfNodes() []*object {
	var out []*object
	for _, n := range c.nodes {
		o := &object{ref: ref{kind: nodeReport.name, name: n.Name}}
		if c.written(n.Name+".json", &o.fields) {
			out = append(out, o)
		}
	}
	return out
}

// eventsOfNodes are the Events that agents have written, node by node.
func (c *cluster) eventsOfNodes() []*object {
	var out []*object
	for _, n := range c.nodes {
		var events list
		if !c.written(n.Name+".events.json", &events) {
			continue
		}
		for _, fields := range events.Items {
			o := &object{ref: ref{kind: nodeEvent.name}, fields: fields}
			o.namespace, _ = o.metadata()["namespace"].(string)
			o.name, _ = o.metadata()["name"].(string)
			out = append(out, o)
		}
	}
	return out
}

// written reads what an agent has written, if it has.
func (c *cluster) written(file string, into any) bool {
	b, err := os.ReadFile(filepath.Join(c.lab.reports(), file))
	if err != nil {
		return false
	}
	if err := json.Unmarshal(b, into); err != nil {
		c.log.Warn("what an agent wrote is not JSON", "file", file, "err", err)
		return false
	}
	return true
}

// The kinds that the controller gives a status.
const (
	agentConfig = "AgentConfig"
	egress      = "Egress"
)

// withStatus adds what the lab knows of a pod or a node, and the controller of an
// AgentConfig or an Egress.
func (c *cluster) withStatus(ctx context.Context, o *object) map[string]any {
	fields := maps.Clone(o.fields)
	switch o.kind {
	case agentConfig:
		if said, err := controller.ReadStatus(c.lab.reports()); err == nil && len(said[o.name].Conditions) > 0 {
			fields["status"] = said[o.name]
		}
	case egress:
		delete(fields, "status")
		if said, err := dir.ReadEgressStatus(c.lab.reports()); err == nil && len(said[o.name].Conditions) > 0 {
			fields["status"] = said[o.name]
		}
	case "Pod":
		fields["status"], fields["metadata"] = c.podStatus(o), c.annotated(o)
	case "Node":
		var n corev1.Node
		o.into(&n)
		ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown"}
		if machine, err := c.node(o.name); err == nil {
			ready = nodeCondition(machine.status(ctx))
		}
		n.Status.Conditions = append(n.Status.Conditions, ready)
		fields["status"] = n.Status
	}
	return fields
}

func nodeCondition(a AgentStatus) corev1.NodeCondition {
	if a.Ready {
		return corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "AgentReady"}
	}
	return corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "AgentNotReady", Message: a.Reason}
}

func (c *cluster) podStatus(o *object) corev1.PodStatus {
	c.mu.Lock()
	p := c.pods[o.ref]
	c.mu.Unlock()
	if p == nil {
		return corev1.PodStatus{Phase: corev1.PodPending}
	}
	w, _ := p.now()
	if w.spec == nil {
		return p.status(nil)
	}
	return p.status(c.hostIPs(w.spec.Spec.NodeName))
}

// report writes the pod's status to its file; one that is gone is forgotten.
func (c *cluster) report(p *pod) {
	w, s := p.now()
	if s.gone {
		c.mu.Lock()
		if c.pods[p.ref] == p {
			delete(c.pods, p.ref)
		}
		c.mu.Unlock()
		return
	}
	if w.spec == nil {
		return // it goes
	}
	status := p.status(c.hostIPs(w.spec.Spec.NodeName))
	b, err := json.Marshal(status)
	if err == nil {
		err = errors.Join(replace.File(c.lab.statusFile(p.ref), b, 0o644), c.tell(p, status))
	}
	if err != nil {
		c.log.Warn("write pod status", "pod", p.String(), "err", err)
	}
}

// status is the whole lab.
func (c *cluster) status(ctx context.Context) Status {
	out := Status{
		APIVersion: "lab.fairlead.dev/v1alpha1", Kind: "LabStatus", Name: c.lab.Name, Ready: true,
		Nodes: make([]NodeStatus, len(c.nodes)), Hosts: []HostStatus{}, Firewalls: []FirewallStatus{}, Pods: []PodStatus{},
	}
	var wait sync.WaitGroup
	for i, n := range c.nodes {
		wait.Go(func() {
			out.Nodes[i] = NodeStatus{
				Name: n.Name, Cluster: "default", Addresses: texts(c.hostIPs(n.Name)), PodCIDRs: texts(n.PodCIDRs),
				Netns: c.net.Node(n.Name), Agent: n.status(ctx),
			}
		})
	}
	wait.Wait()
	for _, n := range out.Nodes {
		out.Ready = out.Ready && n.Agent.Ready
	}
	for _, h := range c.plan.Hosts {
		s := HostStatus{Name: h.Name, Addresses: []string{}, Netns: c.net.Host(h.Name)}
		for _, a := range h.Addresses {
			s.Addresses = append(s.Addresses, a.Addr().String())
		}
		out.Hosts = append(out.Hosts, s)
	}
	for _, f := range c.plan.Firewalls {
		accepted, dropped, err := c.net.Judged(f.Name)
		if err != nil {
			c.log.Warn("read firewall", "firewall", f.Name, "err", err)
		}
		out.Firewalls = append(out.Firewalls, FirewallStatus{Name: f.Name, Netns: c.net.Firewall(f.Name), Accepted: accepted, Dropped: dropped})
	}
	for _, p := range c.podList() {
		out.Pods = append(out.Pods, c.summary(p))
	}
	for _, o := range c.homeless() {
		out.Pods = append(out.Pods, PodStatus{Namespace: o.namespace, Name: o.name, Node: o.nodeName(),
			Phase: string(corev1.PodPending), PodIPs: []string{}, Containers: []ContainerStatus{}})
	}
	return out
}

func (c *cluster) summary(p *pod) PodStatus {
	w, s := p.now()
	spec := s.spec
	if spec == nil {
		spec = w.spec
	}
	out := PodStatus{Namespace: p.namespace, Name: p.name, PodIPs: []string{}, Containers: []ContainerStatus{}}
	if spec == nil {
		return out
	}
	status := p.status(c.hostIPs(spec.Spec.NodeName))
	out.Node, out.Phase, out.Ready, out.Netns = spec.Spec.NodeName, string(status.Phase), isReady(status), c.lab.namespaceOf(spec)
	for _, ip := range status.PodIPs {
		out.PodIPs = append(out.PodIPs, ip.IP)
	}
	for i, container := range spec.Spec.Containers {
		one := ContainerStatus{Name: container.Name, Running: s.up}
		if s.up && s.services[i] != nil {
			now := s.services[i].now()
			one.PID, one.Running, one.ExitCode = now.pid, now.pid != 0, now.exitCode
		}
		out.Containers = append(out.Containers, one)
	}
	return out
}
