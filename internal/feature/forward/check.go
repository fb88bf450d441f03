package forward

import (
	"fairlead.dev/fairlead/internal/doctor"
)

var forwarding = doctor.Check{
	ID: "forwarding", Ask: "Do the node's packet filters let pods' packets pass?",
	Read: func(s doctor.Subject) []doctor.Finding {
		var out []doctor.Finding
		for _, d := range droppers(s.World) {
			f := doctor.Finding{Status: doctor.Warn, Object: d.name(), Message: d.does(), Hint: d.cure(s.World),
				Evidence: map[string]any{"family": d.Family, "table": d.Table, "chain": d.Chain, "legacy": d.Legacy, "ways": d.ways}}
			if d.cuts(s.World) {
				f.Status = doctor.Fail
			}
			out = append(out, f)
		}
		if len(out) == 0 {
			out = append(out, doctor.Finding{Status: doctor.OK, Message: "no other packet filter is seen to drop pods' packets"})
		}
		return out
	},
}
