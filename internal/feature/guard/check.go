package guard

import (
	"context"
	"errors"
	"fmt"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// mostNamed bounds the pods that are named.
const mostNamed = 20

var refusedPackets = doctor.Check{
	ID: "guard", Ask: "Do pods send packets from addresses that are not theirs?",
	Read: func(s doctor.Subject) []doctor.Finding {
		if !s.World.Config.Enabled("guard") {
			return []doctor.Finding{{Status: doctor.OK, Message: "pods' links are not guarded here"}}
		}
		return nil
	},
	Needs: "the counters of dropped packets",
	Look: func(_ context.Context, s doctor.Node) []doctor.Finding {
		counts, err := refusals(s.World)
		if err != nil {
			return []doctor.Finding{{Status: doctor.Fail, Message: fmt.Sprintf("cannot read the counters of dropped packets: %v", err)}}
		}
		var out []doctor.Finding
		more := 0
		for _, a := range s.World.Attachments.List {
			n := counts[feature.Wire(a)]
			switch {
			case n == 0:
			case len(out) == mostNamed:
				more++
			default:
				out = append(out, doctor.Finding{Status: doctor.Warn, Object: "Pod " + a.Namespace + "/" + a.Pod,
					Message:  fmt.Sprintf("%d packets with addresses that are not the pod's, or for the overlay, were dropped", n),
					Evidence: map[string]any{"packets": n},
					Hint:     "a pod that routes for others needs NAT; another may be hostile"})
			}
		}
		if more > 0 {
			out = append(out, doctor.Finding{Status: doctor.Warn, Message: fmt.Sprintf("packets of %d more pods were dropped", more)})
		}
		if len(out) == 0 {
			out = append(out, doctor.Finding{Status: doctor.OK, Message: "pods send with their own addresses only"})
		}
		return out
	},
}

// refusals is how many packets were refused by each wire, by its gate and by rules.
func refusals(w *world.World) (map[string]uint64, error) {
	counts, err := nft.Counts(datapath.GuardTable, wires)
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for _, a := range w.Attachments.List {
		wire := feature.Wire(a)
		out[wire] = counts[nft.Link(wire)]
		if a.Chained || !w.Kernel.Capabilities.TCX.OK {
			continue
		}
		by, err := gate.Refused(wire, false)
		if err != nil && !errors.Is(err, gate.ErrNone) {
			return nil, err
		}
		for _, n := range by {
			out[wire] += n
		}
	}
	return out, nil
}
