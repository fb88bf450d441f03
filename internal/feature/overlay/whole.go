package overlay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/world"
)

// A tunnel is the way of wrapped packets of full size to a peer; nil where packets are
// sent as they are, which are never cut: pods' kernels set DF, and so do our questions.
type tunnel struct {
	world.Leg
	size int
}

// tunnelsOf are the tunnels to the peers that packets are wrapped for.
func tunnelsOf(w *world.World) map[string]*tunnel {
	r, out := renderer{world: w, ends: w.Ends()}, map[string]*tunnel{}
	for _, p := range w.Peers.Nodes {
		leg, overhead, ok := w.Tunnel(p)
		if ok && r.wraps(p, w.Config.Overlay.Mode) {
			out[p.Name] = &tunnel{leg, w.PodMTU() + overhead}
		}
	}
	return out
}

// A cutError says that wrapped packets travel in fragments.
type cutError struct {
	tunnel
	lost bool
}

func (e cutError) Error() string {
	if e.lost {
		return fmt.Sprintf("from %s to %s small packets are answered, and unfragmented ones of %d bytes are not", e.From, e.To, e.size)
	}
	return fmt.Sprintf("%d bytes do not pass unfragmented from %s to %s", e.size, e.From, e.To)
}

// How long a peer itself has to answer, beside what was asked through the tunnel.
const (
	largeTimeout = 1100 * time.Millisecond // asked thrice: the first time may teach the kernel the path's MTU
	smallTimeout = 300 * time.Millisecond
	smallSize    = 100
)

// whole asks the peer itself. The tunnel's outer packets bear no DF (vxlan_xmit_one of
// drivers/net/vxlan/vxlan_core.c, VXLAN_DF_UNSET), so that what is too large for the
// way arrives in fragments, and whoever asks through the tunnel does not see it. A peer
// that answers no question of any size says nothing.
func (t *tunnel) whole(ctx context.Context) error {
	if t == nil {
		return nil
	}
	large, stop := context.WithTimeout(ctx, largeTimeout)
	defer stop()
	err := icmp.Echo(large, t.way(), t.size)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EMSGSIZE) {
		return cutError{tunnel: *t}
	}
	small, stop := context.WithTimeout(ctx, smallTimeout)
	defer stop()
	if icmp.Echo(small, t.way(), smallSize) == nil {
		return cutError{*t, true}
	}
	return nil
}

func (t *tunnel) way() icmp.Way { return icmp.Way{From: t.From, To: t.To, Known: true} }
