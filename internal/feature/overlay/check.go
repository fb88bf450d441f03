package overlay

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// echoTimeout is how long a peer has to answer, retries included.
const echoTimeout = 2 * time.Second

// atOnce bounds the peers that are asked at the same time.
const atOnce = 32

var fullSizePackets = doctor.Check{
	ID: "overlay-mtu", Ask: "Does a full-size packet reach every peer?",
	Run: func(ctx context.Context, s doctor.Subject) []doctor.Finding {
		asked := paths(s.World)
		errs := make([]error, len(asked))
		var wg sync.WaitGroup
		turn := make(chan struct{}, atOnce)
		for i, p := range asked {
			wg.Go(func() {
				turn <- struct{}{}
				defer func() { <-turn }()
				ctx, cancel := context.WithTimeout(ctx, echoTimeout)
				defer cancel()
				errs[i] = echo(ctx, p.from, p.to, s.World.PodMTU())
			})
		}
		wg.Wait()
		return findings(asked, errs, s.World.PodMTU())
	},
}

// path is one way to one peer, in one family.
type path struct {
	peer     string
	from, to netip.Addr
}

func paths(w *world.World) []path {
	var out []path
	for _, p := range w.Peers.Nodes {
		for _, to := range p.Gateways() {
			for _, from := range w.Node.Gateways() {
				if from.Is4() == to.Is4() {
					out = append(out, path{p.Name, from, to})
				}
			}
		}
	}
	return out
}

func findings(asked []path, errs []error, mtu int) []doctor.Finding {
	var out []doctor.Finding
	for i, p := range asked {
		if errs[i] != nil {
			out = append(out, doctor.Finding{
				Status: doctor.Fail, Object: "Node " + p.peer,
				Message:  fmt.Sprintf("%d bytes from %s to %s: %v", mtu, p.from, p.to, errs[i]),
				Hint:     "is the peer up, does the network between the nodes carry the overlay's UDP port and packets of its MTU?",
				Evidence: map[string]any{"bytes": mtu, "from": p.from.String(), "to": p.to.String()},
			})
		}
	}
	if len(out) == 0 {
		out = append(out, doctor.Finding{Status: doctor.OK, Message: fmt.Sprintf("%d bytes reach all peers on %d paths", mtu, len(asked)),
			Evidence: map[string]any{"bytes": mtu, "paths": len(asked)}})
	}
	return out
}
