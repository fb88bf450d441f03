package cluster

import "strconv"

// A Status is what a component of the cluster is doing.
type Status struct {
	Where     string // "control" or a node
	Component string
	PID       int // of this machine; 0: it does not run
	Log       string
}

// State says it in words.
func (s Status) State() string {
	if s.PID == 0 {
		return "stopped, see " + s.Log
	}
	return "runs as " + strconv.Itoa(s.PID) + ", see " + s.Log
}

// Status tells of every component.
func (c *Cluster) Status() []Status {
	var out []Status
	add := func(where, name string, k component) {
		pid, _ := k.running()
		out = append(out, Status{Where: where, Component: name, PID: pid, Log: k.log})
	}
	for _, name := range controlPlane {
		if k, err := c.component(name); err == nil {
			add(control, name, k)
		}
	}
	for _, n := range c.Nodes() {
		add(n.name, "node", n.first())
		for _, name := range n.components() {
			if k, err := n.component(name); err == nil {
				add(n.name, name, k)
			}
		}
	}
	return out
}

// runs reports whether the cluster is as Up left it, at least its control plane.
func (c *Cluster) runs() bool {
	for _, s := range c.Status() {
		if s.Where == control && s.PID == 0 {
			return false
		}
	}
	return true
}
