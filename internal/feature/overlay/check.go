package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/reach"
	"fairlead.dev/fairlead/internal/world"
)

const (
	// echoTimeout is how long a peer has to answer, retries included.
	echoTimeout = 2 * time.Second
	// echoBegin is how long new peers are asked: a cluster of dead ones would take
	// minutes.
	echoBegin = 8 * time.Second
	// atOnce bounds the peers that are asked at the same time.
	atOnce = 64
)

var fullSizePackets = doctor.Check{
	ID: "overlay-mtu", Ask: "Does a full-size packet reach every peer?",
	Needs: "it sends packets to peers",
	Look: func(ctx context.Context, s doctor.Node) []doctor.Finding {
		all := Paths(s.World)
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		errs := askInTurn(ctx, all, fullSize(s.World))
		return findings(all, errs, s.World.PodMTU())
	},
}

// fullSize asks by a path whether packets of full size arrive, and in one piece.
func fullSize(w *world.World) func(context.Context, reach.Path) error {
	tunnels := tunnelsOf(w)
	return func(ctx context.Context, p reach.Path) error {
		if err := icmp.Echo(ctx, icmp.Way{From: p.From, To: p.To}, w.PodMTU()); err != nil {
			return err
		}
		return tunnels[p.Peer].whole(ctx)
	}
}

// askInTurn asks along the paths, in order, as many as there is time for, and
// returns what each came to.
func askInTurn(ctx context.Context, all []reach.Path, ask func(context.Context, reach.Path) error) []error {
	begin, stop := context.WithTimeout(ctx, echoBegin)
	defer stop()
	errs := make([]error, len(all))
	turn := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, p := range all {
		select {
		case <-begin.Done():
			return errs[:i]
		case turn <- struct{}{}:
		}
		wg.Go(func() {
			defer func() { <-turn }()
			ctx, cancel := context.WithTimeout(ctx, echoTimeout)
			defer cancel()
			errs[i] = ask(ctx, p)
		})
	}
	return errs
}

var reversePath = doctor.Check{
	ID: "overlay-reverse-path", Ask: "Does the reverse-path filter accept packets that are answered by another interface?",
	Read: func(s doctor.Subject) []doctor.Finding {
		if _, ok := usable(s.World.Ends(), netip.IPv4Unspecified()); !ok || !hasFamily(s.World.Node.PodCIDRs, netip.IPv4Unspecified()) {
			return []doctor.Finding{{Status: doctor.OK, Message: "there are no IPv4 pods behind an IPv4 address of the node"}}
		}
		return nil
	},
	Needs: "its rp_filter",
	Look: func(_ context.Context, s doctor.Node) []doctor.Finding {
		e, _ := usable(s.World.Ends(), netip.IPv4Unspecified())
		own, err := sysctl.Read(datapath.ReversePathFilter(e.Interface.Name))
		all, more := sysctl.Read(datapath.ReversePathFilter("all"))
		if err := errors.Join(err, more); err != nil {
			return []doctor.Finding{{Status: doctor.Fail, Message: fmt.Sprintf("cannot read rp_filter: %v", err)}}
		}
		f := doctor.Finding{Status: doctor.OK, Object: e.Interface.Name, Evidence: map[string]any{"rp_filter": max(own, all)},
			Message: fmt.Sprintf("the reverse-path filter of %s accepts packets of peers", e.Interface.Name)}
		if max(own, all) == datapath.StrictReversePath && s.World.Config.Overlay.Mode != world.Direct {
			f.Status = doctor.Warn
			f.Message = fmt.Sprintf("the reverse-path filter of %s is strict: packets that peers send directly are dropped, such as while modes change", e.Interface.Name)
			f.Hint = fmt.Sprintf("set net.ipv4.conf.%s.rp_filter to 2, for one in mode direct or before you change modes", e.Interface.Name)
		}
		return []doctor.Finding{f}
	},
}

// Paths are all ways to all peers.
func Paths(w *world.World) []reach.Path {
	var out []reach.Path
	for _, p := range w.Peers.Nodes {
		for _, to := range p.Gateways() {
			for _, from := range w.Node.Gateways() {
				if from.Is4() == to.Is4() {
					out = append(out, reach.Path{Peer: p.Name, From: from, To: to})
				}
			}
		}
	}
	return out
}

// findings says which paths failed, and of how many one knows: only the first
// len(errs) were asked.
func findings(all []reach.Path, errs []error, mtu int) []doctor.Finding {
	var out []doctor.Finding
	for i, err := range errs {
		p := all[i]
		if cut := (cutError{}); errors.As(err, &cut) {
			out = append(out, doctor.Finding{
				Status: doctor.Warn, Object: "Node " + p.Peer,
				Message:  fmt.Sprintf("%d bytes from %s to %s arrive, but fragmented: %v", mtu, p.From, p.To, cut),
				Hint:     "raise the MTU of the network between the nodes, or lower overlay.mtu",
				Evidence: map[string]any{"bytes": mtu, "from": p.From.String(), "to": p.To.String(), "fragmented": true, "outer": cut.size},
			})
		} else if err != nil {
			out = append(out, doctor.Finding{
				Status: doctor.Fail, Object: "Node " + p.Peer,
				Message:  fmt.Sprintf("%d bytes from %s to %s: %v", mtu, p.From, p.To, err),
				Hint:     "is the peer up, does the network between the nodes carry the overlay's UDP port and packets of its MTU?",
				Evidence: map[string]any{"bytes": mtu, "from": p.From.String(), "to": p.To.String()},
			})
		}
	}
	slices.SortFunc(out, func(a, b doctor.Finding) int { return strings.Compare(a.Object+a.Message, b.Object+b.Message) })
	if len(out) == 0 {
		out = append(out, doctor.Finding{Status: doctor.OK, Message: fmt.Sprintf("%d bytes reach all peers on %d paths", mtu, len(errs)),
			Evidence: map[string]any{"bytes": mtu, "paths": len(errs)}})
	}
	if len(errs) < len(all) {
		out = append(out, doctor.Finding{Status: doctor.Warn,
			Message:  fmt.Sprintf("%d of %d paths, chosen at random, were checked in the time available", len(errs), len(all)),
			Hint:     "peers that do not answer take time; see the failures above",
			Evidence: map[string]any{"asked": len(errs), "paths": len(all)}})
	}
	return out
}
