package snat

import (
	"fmt"
	"log/slog"

	"fairlead.dev/fairlead/internal/world"
)

// Ports is how source ports are chosen on a node right now.
type Ports struct {
	Choice     world.PortChoice // as configured
	Range      world.PortRange  // in force; zero: the kernel's choice
	Block      int              // ports of it that each pod has to itself; 0: all share it
	Wanted     bool             // random ports are asked for
	Randomized bool             // and given
	Missing    string           // why they are not

	crowded bool // auto would leave nothing of the node's range
	tooWide int  // a block as asked for that does not fit the range
}

// InForce returns how source ports are chosen in w.
func InForce(w *world.World) Ports {
	c := w.Config.NodeSNAT
	random := w.WantsRandomPorts(c)
	p := Ports{Choice: c.Ports, Wanted: random, Randomized: random, Block: c.Block}
	if capable := w.Kernel.Capabilities.FullyRandomPorts; random && !capable.OK {
		p.Randomized, p.Missing = false, capable.Reason
	}
	p.Range, p.crowded = w.SourcePorts(c.Ports)
	if p.Range.High == 0 && p.Block > 0 {
		p.Range = world.AnySourcePort
	}
	if p.Block > p.Range.Len() {
		p.Block, p.tooWide = 0, p.Block
	}
	return p
}

// problems is what of the settings could not be followed on the named node.
func (p Ports) problems(node string) []world.Problem {
	var out []world.Problem
	if p.crowded {
		out = append(out, world.Problem{
			Object: "Node " + node, Field: "net.ipv4.ip_local_port_range",
			Reason: fmt.Sprintf("%s leaves no port outside NodePort, NodePortLocal and ip_local_reserved_ports; it is used whole", p.Range),
			Hint:   "widen the sysctl, or set nodeSNATPortRange: LOW-HIGH",
		})
	}
	if p.tooWide > 0 {
		out = append(out, world.Problem{
			Object: "Node " + node, Field: "nodeSNATPortBlock",
			Reason: fmt.Sprintf("a block of %d ports does not fit the range %s, which all pods share instead", p.tooWide, p.Range),
			Hint:   "write a smaller nodeSNATPortBlock, or a wider nodeSNATPortRange",
		})
	}
	return out
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
		r.Reason, r.Severity = reasonMissing, slog.LevelError
		r.Message = fmt.Sprintf("nodeSNATRandomizePorts is true, but this kernel does not support it (%s): pods keep their network, ports are not random, range %s", p.Missing, p)
	default:
		r.Reason, r.Message = reasonOff, fmt.Sprintf("ports are not random: pods' own are kept where free, range %s", p)
	}
	return r
}
