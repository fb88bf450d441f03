package doctor

import (
	"context"
	"fmt"
	"strings"

	"fairlead.dev/fairlead/internal/world"
)

// Checks are the questions that no feature owns.
var Checks = []Check{kernelState, capabilities, objects, switchedOff}

var kernelState = Check{
	ID: "kernel-state", Ask: "Does the kernel hold what it should?",
	Needs: "what its kernel holds",
	Look: func(_ context.Context, n Node) []Finding {
		changes, err := n.Diff()
		if err != nil {
			return []Finding{{Status: Fail, Message: fmt.Sprintf("cannot read the kernel: %v", err),
				Hint: "the agent needs CAP_NET_ADMIN in the node's network namespace"}}
		}
		if changes.Empty() {
			return []Finding{{Status: OK, Message: "the kernel holds exactly what it should"}}
		}
		return []Finding{{Status: Fail, Message: fmt.Sprintf("the kernel differs from what it should hold: %d changes are due", changes.Len()),
			Evidence: map[string]any{"changes": changes.String()},
			Hint:     "fairlead diff shows them; the agent repairs them, so see its log if they stay"}}
	},
}

var capabilities = Check{
	ID: "kernel-capabilities", Ask: "Does the kernel support what is configured?",
	Read: func(s Subject) []Finding {
		c := s.World.Kernel.Capabilities
		return []Finding{fullyRandom(s), programs("entrance", c.TCX), programs("exit", c.TCXEgress)}
	},
}

func fullyRandom(s Subject) Finding {
	c := s.World.Kernel.Capabilities.FullyRandomPorts
	switch {
	case c.OK:
		return Finding{Status: OK, Message: "fully random source ports work inside a range"}
	case s.World.Config.NodeSNAT.Randomize:
		return Finding{Status: Fail, Object: "AgentConfig", Message: "random source ports are configured and not supported: " + c.Reason,
			Hint: "run a kernel of at least 3.14 with nf_tables masquerade, or set nodeSNATRandomizePorts: false"}
	default:
		return Finding{Status: Warn, Message: "fully random source ports are not supported, and not configured: " + c.Reason}
	}
}

// programs are a matter of speed: rules do the same.
func programs(side string, c world.Capability) Finding {
	if c.OK {
		return Finding{Status: OK, Message: fmt.Sprintf("programs at the %s of links (tcx) work", side)}
	}
	return Finding{Status: OK, Message: fmt.Sprintf("no programs at the %s of links (tcx), rules take their place: %s", side, c.Reason),
		Hint: "Linux 6.6 and later have them, for CAP_SYS_ADMIN or CAP_BPF"}
}

var objects = Check{
	ID: "objects", Ask: "Are there configuration errors in the objects?",
	Read: func(s Subject) []Finding {
		var out []Finding
		for _, p := range s.Problems {
			message := p.Reason
			if p.Field != "" {
				message = p.Field + ": " + message
			}
			out = append(out, Finding{Status: Warn, Object: p.Object, Message: message, Hint: p.Hint,
				Evidence: map[string]any{"source": p.Source}})
		}
		if len(out) == 0 {
			out = append(out, Finding{Status: OK, Message: "there are no configuration errors in the objects"})
		}
		return out
	},
}

var switchedOff = Check{
	ID: "features", Ask: "Is everything switched on?",
	Read: func(s Subject) []Finding {
		off := s.World.Config.DisabledFeatures
		if len(off) == 0 {
			message := "all features are switched on"
			if s.World.Config.Overlay.Mode == world.None {
				message = "another CNI makes the pod network (overlay.mode is none); all other features are switched on"
			}
			return []Finding{{Status: OK, Message: message}}
		}
		return []Finding{{Status: Warn, Object: "AgentConfig", Message: "switched off: " + strings.Join(off, ", "),
			Hint: "remove the names from spec.features if that is not meant"}}
	},
}
