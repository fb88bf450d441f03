package snat

import (
	"context"
	"fmt"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

var portRanges = doctor.Check{
	ID: "snat-ports", Ask: "Do source ports come from a range that replies can reach?",
	Run: func(_ context.Context, s doctor.Subject) []doctor.Finding {
		p := InForce(s.World)
		evidence := map[string]any{
			"choice": p.Choice.String(), "range": p.String(), "randomized": p.Randomized,
			"ipLocalPortRange": s.World.Kernel.LocalPorts.String(),
		}
		var out []doctor.Finding
		add := func(status doctor.Status, message, hint string) {
			out = append(out, doctor.Finding{Status: status, Message: message, Hint: hint, Evidence: evidence})
		}
		for _, problem := range p.problems {
			add(doctor.Warn, problem.Reason, problem.Hint)
		}
		if p.Wanted && !p.Randomized {
			add(doctor.Fail, "random source ports are asked for and not in force: "+p.Missing, "see kernel-capabilities")
		}
		if p.Range.High == 0 {
			add(doctor.Warn, "the kernel picks source ports from 1024-65535: a stateless firewall may drop replies",
				"set nodeSNATPortRange: auto, or the range that the firewall lets in")
		}
		if taken := overlap(p.Range, nodePorts); p.Choice.Mode == world.PortsFixed && taken {
			add(doctor.Warn, fmt.Sprintf("range %s reaches into NodePorts %s", p.Range, nodePorts), "begin at 32768 or above")
		}
		if len(out) == 0 {
			add(doctor.OK, fmt.Sprintf("source ports come from %s, %s", p, chosen(p)), "")
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
