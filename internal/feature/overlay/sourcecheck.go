package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Clouds drop what a machine sends with an address that is none of its own. Where pods'
// packets go to a peer as they are, they are lost then; in the tunnel they are not, and
// whoever means to change the mode can ask beforehand.
var sourceCheck = doctor.Check{
	ID: "overlay-source-check", Ask: "Does the network between the nodes let pods' addresses pass?",
	Run: func(ctx context.Context, s doctor.Subject) []doctor.Finding {
		all := crossings(s.World, s.Probe)
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		paths := make([]Path, len(all))
		of := make(map[Path]Crossing, len(all))
		for i, c := range all {
			paths[i] = c.Path
			of[c.Path] = c
		}
		errs := askInTurn(ctx, paths, func(ctx context.Context, p Path) error { return of[p].Ask(ctx) })
		return judge(all[:len(errs)], errs, s.World.Config.Overlay.Mode)
	},
}

// A Crossing is a way from an address of this node among its pods' to the own address of
// a peer, past the tunnel.
type Crossing struct {
	Path
	by     world.End // this node's, of the same family
	direct bool      // pods' packets go that way
}

// Crossings are those to peers whose pods are reached by the tunnel.
func Crossings(w *world.World) []Crossing {
	return slices.DeleteFunc(crossings(w, true), func(c Crossing) bool { return c.direct })
}

// crossings are those that pods' packets take; where somebody wants to know, all.
func crossings(w *world.World, every bool) []Crossing {
	r := renderer{world: w, ends: w.Ends()}
	var out []Crossing
	for _, p := range w.Peers.Nodes {
		for _, from := range w.Node.Gateways() {
			e, ok := usable(r.ends, from)
			to := w.PeerEnds(p, from)
			if !ok || len(to) == 0 || r.own(to[0]) {
				continue
			}
			direct, _ := r.nextHop(p, from)
			if direct.IsValid() || every {
				out = append(out, Crossing{Path{p.Name, from, to[0]}, e, direct.IsValid()})
			}
		}
	}
	return out
}

// ErrAway is of a peer that answers nobody, so that nothing follows.
var ErrAway = errors.New("does not answer this node itself")

// Ask asks as the node, and then as a pod.
func (c Crossing) Ask(ctx context.Context) error {
	const size = 100
	if icmp.Echo(ctx, icmp.Way{From: c.by.Address, To: c.To}, size) != nil {
		return ErrAway
	}
	return icmp.Echo(ctx, icmp.Way{From: c.From, To: c.To, By: c.by.Interface.Name}, size)
}

// judge says what answers, or their absence, come to.
func judge(asked []Crossing, errs []error, mode world.OverlayMode) []doctor.Finding {
	var lost, wouldBe []string
	known := 0
	for i, c := range asked {
		if errors.Is(errs[i], ErrAway) {
			continue
		}
		known++
		switch way := fmt.Sprintf("%s (%s)", c.To, c.Peer); {
		case errs[i] == nil:
		case c.direct:
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
