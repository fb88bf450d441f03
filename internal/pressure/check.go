package pressure

import (
	"context"
	"fmt"

	"fairlead.dev/fairlead/internal/doctor"
)

// Check is the doctor's question to w.
func (w *Watch) Check() doctor.Check {
	return doctor.Check{
		ID: "snat-pressure", Ask: "Are there enough source ports, and is there room in the connection table?",
		Run: func(ctx context.Context, _ doctor.Subject) []doctor.Finding { return diagnose(w.Look(ctx)) },
	}
}

func diagnose(s Status) []doctor.Finding {
	if s.At.IsZero() {
		return []doctor.Finding{{Status: doctor.Warn, Message: "the connection table is not watched", Hint: "see the agent's log"}}
	}
	evidence := map[string]any{"conntrack": s.Conntrack, "lastMinute": s.LastMinute, "fullest": s.Fullest}
	var out []doctor.Finding
	add := func(status doctor.Status, message, hint string) {
		out = append(out, doctor.Finding{Status: status, Message: message, Hint: hint, Evidence: evidence})
	}
	if l := s.LastMinute; l.InsertFailed+l.Drop > 0 {
		add(doctor.Fail, fmt.Sprintf("connections are being lost: in the last minute insert_failed grew by %d and drop by %d", l.InsertFailed, l.Drop),
			"fairlead get events says most likely why, fairlead get snat -o wide towards where")
	}
	for _, f := range s.Fullest {
		if f.Used >= f.enter() {
			add(doctor.Warn, fmt.Sprintf("%s: source ports are scarce, %s", f.Destination, f), "use connections again, set a wider nodeSNATPortRange, or give the service more addresses")
		}
	}
	if n, size := s.Conntrack.Entries, s.Conntrack.Max; size > 0 && n >= portion(size, tableFills) {
		add(doctor.Warn, fmt.Sprintf("the connection table holds %d of %d entries", n, size), "raise net.netfilter.nf_conntrack_max")
	}
	if len(out) == 0 {
		message := "nobody holds a translated connection"
		if len(s.Fullest) > 0 {
			message = fmt.Sprintf("there are enough source ports; the fullest is %s, %s", s.Fullest[0].Destination, s.Fullest[0])
		}
		add(doctor.OK, message, "")
	}
	return out
}
