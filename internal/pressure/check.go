package pressure

import (
	"context"
	"fmt"

	"fairlead.dev/fairlead/internal/doctor"
)

// Checks are the doctor's questions to w.
func (w *Watch) Checks() []doctor.Check {
	return []doctor.Check{{
		ID: "snat-pressure", Ask: "Are there enough source ports, and is there room in the connection table?",
		Needs: "its connection table",
		Look:  func(ctx context.Context, _ doctor.Node) []doctor.Finding { return diagnose(w.Look(ctx)) },
	}, {
		ID: "snat-reuse", Ask: "Do new connections wait, since their source ports are reused too soon?",
		Needs: "the connections that begin there",
		Look: func(context.Context, doctor.Node) []doctor.Finding {
			return w.Status().Waits.diagnose(*w.config.Load(), kernelOffsets)
		},
	}}
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
			add(doctor.Warn, fmt.Sprintf("%s: source ports run short, %s", f.Destination, f), "reuse connections, set a wider nodeSNATPortRange, or give the service more addresses")
		}
	}
	if n, size := s.Conntrack.Entries, s.Conntrack.Max; size > 0 && n >= portion(size, tableFills) {
		add(doctor.Warn, fmt.Sprintf("the connection table holds %d of %d entries", n, size), "raise net.netfilter.nf_conntrack_max")
	}
	if len(out) == 0 {
		message := "there is no translated connection"
		if len(s.Fullest) > 0 {
			message = fmt.Sprintf("there are enough source ports; the fullest is %s, %s", s.Fullest[0].Destination, s.Fullest[0])
		}
		add(doctor.OK, message, "")
	}
	return out
}

const (
	waitsPercent = 1 // of new connections; fewer wait on any network
	waitsLeast   = 3
)

// matter reports whether n of t's connections are worth a word.
func (t Tally) matter(n int) bool { return n >= waitsLeast && n >= portion(t.New, waitsPercent) }

// diagnose says which connections waited, and why. Ports that come back and a far
// end that does not answer have different cures.
func (s Waits) diagnose(c Config, offsets func() (byPort bool, err error)) []doctor.Finding {
	evidence := map[string]any{"lastMinute": s.LastMinute, "worst": s.Worst}
	timestamps := "do not depend on ports"
	switch byPort, err := offsets(); {
	case err != nil:
		timestamps = "are not known: " + err.Error()
	case byPort:
		timestamps = "depend on ports"
	}
	evidence["timestamps"] = timestamps
	var out []doctor.Finding
	add := func(status doctor.Status, message, hint string) {
		out = append(out, doctor.Finding{Status: status, Message: message, Hint: hint, Evidence: evidence})
	}
	if s.Missing != "" {
		add(doctor.Warn, "new connections are not watched: "+s.Missing, "")
	}
	for _, w := range s.Worst {
		if w.matter(w.Held) {
			add(doctor.Warn, fmt.Sprintf("%s; timestamps of this kernel %s", w.held(), timestamps), c.cure())
		}
		if w.matter(w.Unanswered) {
			add(doctor.Warn, w.share(w.Unanswered)+" got no answer to their first packet",
				"ports are not the reason: is the destination up and not overloaded, and does a firewall on the path let packets and replies pass?")
		}
	}
	if len(out) == 0 {
		add(doctor.OK, fmt.Sprintf("of %d new connections that were followed in the last minute, %d waited", s.LastMinute.New, s.LastMinute.Waited()), "")
	}
	return out
}

// held says why some of w's connections waited.
func (w Wait) held() string {
	return w.share(w.Held) + " waited: source ports are reused within TIME_WAIT of the far end, which takes their timestamps for old ones"
}

// cure is what ends that.
func (c Config) cure() string {
	if c.Monotonic {
		return "podTCPTimestamps: monotonic is set, and does not apply to pods with a value of their own (see pod-tcp), pods of another CNI that the agent " +
			"does not know, the node's own connections (hostTCPTimestamps) and other nodes behind the same address"
	}
	return "set podTCPTimestamps: monotonic"
}

// share is n of the new connections, for people.
func (w Wait) share(n int) string {
	return fmt.Sprintf("%.1f %% of new connections to %s (%d of %d that were followed in the last minute)", 100*float64(n)/float64(w.New), w.Target(), n, w.New)
}
