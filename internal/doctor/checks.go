package doctor

import (
	"context"
	"fmt"
)

// Checks are the questions that no feature owns.
var Checks = []Check{kernelState, capabilities}

var kernelState = Check{
	ID: "kernel-state", Ask: "Does the kernel hold what it should?",
	Run: func(_ context.Context, s Subject) []Finding {
		changes, err := s.Diff()
		if err != nil {
			return []Finding{{Status: Fail, Message: fmt.Sprintf("cannot read the kernel: %v", err),
				Hint: "the agent needs CAP_NET_ADMIN in the node's network namespace"}}
		}
		if changes.Empty() {
			return []Finding{{Status: OK, Message: "the kernel holds exactly what it should"}}
		}
		return []Finding{{Status: Fail, Message: fmt.Sprintf("the kernel differs in %d places", changes.Len()),
			Evidence: map[string]any{"changes": changes.String()},
			Hint:     "fairlead diff shows them; the agent repairs them, so see its log if they stay"}}
	},
}

var capabilities = Check{
	ID: "kernel-capabilities", Ask: "Can the kernel do what is asked of it?",
	Run: func(_ context.Context, s Subject) []Finding {
		c := s.World.Kernel.Capabilities.FullyRandomPorts
		switch {
		case c.OK:
			return []Finding{{Status: OK, Message: "fully random source ports work inside a range"}}
		case s.World.Config.NodeSNAT.Randomize:
			return []Finding{{Status: Fail, Object: "AgentConfig", Message: "random source ports are asked for and missing: " + c.Reason,
				Hint: "run a kernel of at least 3.14 with nf_tables masquerade, or set nodeSNATRandomizePorts: false"}}
		default:
			return []Finding{{Status: Warn, Message: "fully random source ports are missing, and not asked for: " + c.Reason}}
		}
	},
}
