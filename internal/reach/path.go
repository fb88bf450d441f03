package reach

import (
	"context"
	"errors"
	"net/netip"

	"fairlead.dev/fairlead/internal/icmp"
	"fairlead.dev/fairlead/internal/world"
)

// A Path is one way to one peer, in one family: between the addresses that the
// two nodes have among their pods'.
type Path struct {
	Peer     string
	From, To netip.Addr
}

// A Crossing is a way from an address of this node among its pods' to the own address of
// a peer, past the tunnel.
type Crossing struct {
	Path
	By     world.End // this node's, of the same family
	Direct bool      // pods' packets go that way
}

// ErrAway is of a peer that answers nobody, so that nothing follows.
var ErrAway = errors.New("does not answer this node itself")

// Ask asks as the node, and then as a pod.
func (c Crossing) Ask(ctx context.Context) error {
	const size = 100
	if icmp.Echo(ctx, icmp.Way{From: c.By.Address, To: c.To}, size) != nil {
		return ErrAway
	}
	return icmp.Echo(ctx, icmp.Way{From: c.From, To: c.To, By: c.By.Interface.Name}, size)
}
