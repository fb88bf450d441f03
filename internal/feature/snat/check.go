package snat

import (
	"context"
	"fmt"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

var portRanges = doctor.Check{
	ID: "snat-ports", Ask: "Do source ports come from a range that replies can reach?",
	Read: func(s doctor.Subject) []doctor.Finding {
		p := InForce(s.World)
		evidence := map[string]any{
			"choice": p.Choice.String(), "range": p.String(), "randomized": p.Randomized,
			"ipLocalPortRange": s.World.Kernel.LocalPorts.String(),
		}
		var out []doctor.Finding
		add := func(status doctor.Status, message, hint string) {
			out = append(out, doctor.Finding{Status: status, Message: message, Hint: hint, Evidence: evidence})
		}
		for _, problem := range p.problems(s.World.Node.Name) {
			add(doctor.Warn, problem.Reason, problem.Hint)
		}
		if p.Wanted && !p.Randomized {
			add(doctor.Fail, "random source ports are configured and not in force: "+p.Missing, "see kernel-capabilities")
		}
		if p.Choice.Mode == world.PortsKernel {
			add(doctor.Warn, "the kernel picks source ports from 1024-65535: a stateless firewall may drop replies",
				"set nodeSNATPortRange: auto, or the range that the firewall accepts")
		}
		if taken := overlap(p.Range, world.ServicePorts); p.Choice.Mode == world.PortsFixed && taken {
			add(doctor.Warn, fmt.Sprintf("range %s shares ports with NodePort Services (%s)", p.Range, world.ServicePorts), "begin at 32768 or above")
		}
		if len(out) == 0 {
			add(doctor.OK, fmt.Sprintf("source ports come from %s, %s", p, chosen(p)), "")
		}
		return out
	},
}

var portBlocks = doctor.Check{
	ID: "snat-port-blocks", Ask: "Does every pod have source ports to itself?",
	Read: func(s doctor.Subject) []doctor.Finding {
		p, a := InForce(s.World), Allot(s.World)
		if p.tooWide > 0 {
			return nil // snat-ports tells
		}
		if p.Block == 0 {
			return []doctor.Finding{{Status: doctor.OK, Message: "nodeSNATPortBlock is 0: all pods share the range of source ports"}}
		}
		evidence := map[string]any{
			"range": p.String(), "size": p.Block, "blocks": p.Blocks(), "held": a.Held(), "sharing": len(a.Sharing),
		}
		var out []doctor.Finding
		add := func(status doctor.Status, message, hint string) {
			out = append(out, doctor.Finding{Status: status, Message: message, Hint: hint, Evidence: evidence})
		}
		for _, problem := range a.problems(p, s.World.Node.Name) {
			add(doctor.Warn, problem.Reason, problem.Hint)
		}
		if noPodKnown(s.World) {
			add(doctor.Warn, "no pod is known here, so none has a block: all share "+p.String(),
				"chain the plugin fairlead behind the other CNI's (CNI chaining), and recreate the pods")
		}
		for _, c := range s.World.Node.PodCIDRs {
			if f := familyOf(c.Addr()); !wayOut(s.World, f).Address.IsValid() {
				add(doctor.Warn, fmt.Sprintf("no address is known for packets from %s: its pods share the range", c),
					"give the node a default route of that family, or an interface the address of its Node")
			}
		}
		if len(out) == 0 {
			add(doctor.OK, fmt.Sprintf("%d of %d blocks of %d source ports are allocated", a.Held(), p.Blocks(), p.Block), "")
		}
		return out
	},
}

var leaking = doctor.Check{
	ID: "snat-leaks", Ask: "Do packets try to leave the cluster with a pod's address?",
	Read: func(s doctor.Subject) []doctor.Finding {
		switch {
		case !s.World.Config.Enabled("snat"):
			return []doctor.Finding{{Status: doctor.OK, Message: "pods keep their addresses here: the feature snat is off"}}
		case len(exits(s.World)) == 0:
			return []doctor.Finding{{Status: doctor.OK, Message: "rules drop what is untracked; nft list chain inet fairlead-snat untranslated counts it"}}
		}
		return nil
	},
	Needs: "the counters of programs at its interfaces",
	Look: func(_ context.Context, n doctor.Node) []doctor.Finding {
		var out []doctor.Finding
		for _, name := range exits(n.World) {
			counts, err := gate.Refused(name, true)
			if err != nil {
				out = append(out, doctor.Finding{Status: doctor.Warn, Object: "interface " + name, Message: fmt.Sprintf("its egress is not watched: %v", err),
					Hint: "the agent repairs that: see its log if it stays"})
			} else if n := counts[gate.Leaking]; n > 0 {
				out = append(out, doctor.Finding{Status: doctor.OK, Object: "interface " + name, Evidence: map[string]any{"packets": n},
					Message: fmt.Sprintf("%d untranslated packets with a pod's address were dropped", n)})
			}
		}
		if len(out) == 0 {
			out = append(out, doctor.Finding{Status: doctor.OK, Message: "no packet tried to leave with a pod's address"})
		}
		return out
	},
}

func overlap(a, b world.PortRange) bool { return a.Low <= b.High && b.Low <= a.High }

func chosen(p Ports) string {
	if p.Randomized {
		return "chosen at random"
	}
	return "pods' own ports kept where they are in it and free"
}
