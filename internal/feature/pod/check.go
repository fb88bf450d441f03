package pod

import (
	"fmt"

	"fairlead.dev/fairlead/internal/doctor"
)

// poolTight is the share of a pool, in percent, from which on it is a warning.
const poolTight = 90

var addressPools = doctor.Check{
	ID: "address-pools", Ask: "Are there addresses left for pods?",
	Read: func(s doctor.Subject) []doctor.Finding {
		if len(s.Pools) == 0 {
			return []doctor.Finding{{Status: doctor.Fail, Object: "Node " + s.World.Node.Name, Message: "the node has no pod CIDR",
				Hint: "let the controller manager allocate them, or write spec.podCIDRs"}}
		}
		var out []doctor.Finding
		for _, p := range s.Pools {
			f := doctor.Finding{Status: doctor.OK, Object: p.CIDR, Message: fmt.Sprintf("%d of %s addresses are in use", p.Used, size(p)),
				Evidence: map[string]any{"used": p.Used, "size": p.Size}}
			if p.Used >= p.Size {
				f.Status, f.Hint = doctor.Fail, "delete pods, or give the node a larger pod CIDR"
			} else if p.Used*100 >= p.Size*poolTight {
				f.Status, f.Hint = doctor.Warn, "the next pods may find no address: give the node a larger pod CIDR"
			}
			out = append(out, f)
		}
		return out
	},
}

// size is how many addresses there are, in words where they were not counted.
func size(p doctor.Pool) string {
	if p.Size >= doctor.Countless {
		return "more than two billion"
	}
	return fmt.Sprint(p.Size)
}
