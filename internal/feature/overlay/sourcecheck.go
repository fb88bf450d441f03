package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/reach"
	"fairlead.dev/fairlead/internal/world"
)

// Clouds drop what a machine sends with an address that is none of its own. Where pods'
// packets go to a peer as they are, they are lost then; in the tunnel they are not, and
// whoever means to change the mode can ask beforehand.
var sourceCheck = doctor.Check{
	ID: "overlay-source-check", Ask: "Does the network between the nodes let pods' addresses pass?",
	Needs: "it sends packets with pods' addresses to peers",
	Look: func(ctx context.Context, s doctor.Node) []doctor.Finding {
		all := crossings(s.World, s.Probe)
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		paths := make([]reach.Path, len(all))
		of := make(map[reach.Path]reach.Crossing, len(all))
		for i, c := range all {
			paths[i] = c.Path
			of[c.Path] = c
		}
		errs := askInTurn(ctx, paths, func(ctx context.Context, p reach.Path) error { return of[p].Ask(ctx) })
		return judge(all[:len(errs)], errs, s.World.Config.Overlay.Mode)
	},
}

// Crossings are those to peers whose pods are reached by the tunnel.
func Crossings(w *world.World) []reach.Crossing {
	return slices.DeleteFunc(crossings(w, true), func(c reach.Crossing) bool { return c.Direct })
}

// crossings are those that pods' packets take; where somebody wants to know, all.
func crossings(w *world.World, every bool) []reach.Crossing {
	r := renderer{world: w, ends: w.Ends()}
	var out []reach.Crossing
	for _, p := range w.Peers.Nodes {
		for _, from := range w.Node.Gateways() {
			e, ok := usable(r.ends, from)
			to := w.PeerEnds(p, from)
			if !ok || len(to) == 0 || r.own(to[0]) {
				continue
			}
			direct, _ := r.nextHop(p, from)
			if direct.IsValid() || every {
				out = append(out, reach.Crossing{Path: reach.Path{Peer: p.Name, From: from, To: to[0]}, By: e, Direct: direct.IsValid()})
			}
		}
	}
	return out
}

// judge says what answers, or their absence, come to.
func judge(asked []reach.Crossing, errs []error, mode world.OverlayMode) []doctor.Finding {
	var lost, wouldBe []string
	known := 0
	for i, c := range asked {
		if errors.Is(errs[i], reach.ErrAway) {
			continue
		}
		known++
		switch way := fmt.Sprintf("%s (%s)", c.To, c.Peer); {
		case errs[i] == nil:
		case c.Direct:
			lost = append(lost, way)
		default:
			wouldBe = append(wouldBe, way)
		}
	}
	slices.Sort(lost)
	slices.Sort(wouldBe)
	f := doctor.Finding{Status: doctor.OK, Evidence: map[string]any{"asked": len(asked), "known": known, "dropped": len(lost) + len(wouldBe)}}
	switch {
	case len(lost) > 0:
		f.Status = doctor.Fail
		f.Message = fmt.Sprintf("packets with pods' addresses are dropped on the way to %s, and those with this node's are not", quote.Some(lost, len(lost)))
		f.Hint = fmt.Sprintf("overlay.mode is %s: set it to vxlan, or switch off what checks sources at the nodes' interfaces (in a cloud: source/destination check, port security, IP forwarding; on the nodes: rp_filter=1)", mode)
	case len(wouldBe) > 0:
		f.Message = fmt.Sprintf("packets with pods' addresses are dropped on the way to %s: keep overlay.mode %s, which does not need them to pass", quote.Some(wouldBe, len(wouldBe)), mode)
	case len(asked) == 0:
		f.Message = "between nodes pods' packets are encapsulated; fairlead doctor --probe checks whether they would pass without the tunnel"
	case known == 0:
		f.Message = "no peer was checked that answers this node"
	default:
		f.Message = fmt.Sprintf("packets with pods' addresses pass to the nodes, on %d of %d paths", known, len(asked))
	}
	return []doctor.Finding{f}
}
