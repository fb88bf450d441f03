package snat

import (
	"fmt"

	"fairlead.dev/fairlead/internal/world"
)

// nodePorts is what kube-apiserver hands out for Services of type NodePort
// unless told otherwise (--service-node-port-range).
var nodePorts = world.PortRange{Low: 30000, High: 32767}

// Ports is how source ports are chosen on a node right now.
type Ports struct {
	Choice     world.PortChoice // as configured
	Range      world.PortRange  // in force; zero: the kernel's choice
	Wanted     bool             // random ports are asked for
	Randomized bool             // and given
	Missing    string           // why they are not

	problems []world.Problem
}

// InForce returns how source ports are chosen in w.
func InForce(w *world.World) Ports {
	c := w.Config.NodeSNAT
	p := Ports{Choice: c.Ports, Wanted: c.Randomize, Randomized: c.Randomize}
	if capable := w.Kernel.Capabilities.FullyRandomPorts; c.Randomize && !capable.OK {
		p.Randomized, p.Missing = false, capable.Reason
	}
	switch c.Ports.Mode {
	case world.PortsFixed:
		p.Range = c.Ports.Range
	case world.PortsAuto:
		p.auto(w)
	}
	return p
}

// auto takes the node's ephemeral range and leaves out what others need. NAT
// takes one range, so the largest piece that remains is the choice.
func (p *Ports) auto(w *world.World) {
	taken := append([]world.PortRange{nodePorts}, w.Kernel.ReservedPorts...)
	if w.Config.NodePortLocal.Enabled {
		taken = append(taken, w.Config.NodePortLocal.Ports)
	}
	for _, left := range w.Kernel.LocalPorts.Without(taken...) {
		if p.Range.High == 0 || left.Len() > p.Range.Len() {
			p.Range = left
		}
	}
	if p.Range.High == 0 {
		p.Range = w.Kernel.LocalPorts
		p.problems = append(p.problems, world.Problem{
			Object: "Node " + w.Node.Name, Field: "net.ipv4.ip_local_port_range",
			Reason: fmt.Sprintf("%s leaves no port outside NodePort, NodePortLocal and ip_local_reserved_ports; it is used whole", p.Range),
			Hint:   "widen the sysctl, or set nodeSNATPortRange: LOW-HIGH",
		})
	}
}

// String is the range in force, or "kernel" where there is none.
func (p Ports) String() string {
	if p.Range.High == 0 {
		return "kernel"
	}
	return p.Range.String()
}

// Reasons of the report SNATPortsRandomized.
const (
	reasonOn      = "Randomized"
	reasonOff     = "NotAskedFor"
	reasonMissing = "KernelLacksFullyRandom"
)

// report tells the cluster whether the node randomises source ports. Asked for
// and missing is never silent.
func (p Ports) report(node string) world.Report {
	r := world.Report{Object: "FairleadNode " + node, Type: "SNATPortsRandomized", Status: p.Randomized}
	switch {
	case p.Randomized:
		r.Reason, r.Message = reasonOn, fmt.Sprintf("source ports are chosen at random, range %s", p)
	case p.Wanted:
		r.Reason = reasonMissing
		r.Message = fmt.Sprintf("nodeSNATRandomizePorts is true but this kernel does not do it (%s): pods keep their network, ports are not random, range %s", p.Missing, p)
	default:
		r.Reason, r.Message = reasonOff, fmt.Sprintf("nodeSNATRandomizePorts is false: pods' own ports are kept where free, range %s", p)
	}
	return r
}
