package world

import "net/netip"

// An Underlay is how packets to other nodes leave this one, as its routes say.
type Underlay struct {
	MTU4, MTU6 int // the least of the ways to peers; 0: none is known
	// Held is what the tunnel has, where the way to some peer has not been seen yet: an
	// MTU is never raised because of what is not seen. 0: there is nothing to wait for.
	Held int
}

// A Leg is the way between two nodes' ends of the overlay.
type Leg struct{ From, To netip.Addr }

// Legs are the ways from this node to its peers, of each family that packets travel in.
func (w *World) Legs() []Leg {
	var out []Leg
	for n, e := range w.Ends() {
		if n > 0 && w.Config.Overlay.Mode != Direct {
			break
		}
		for _, p := range w.Peers.Nodes {
			if leg, ok := w.leg(e, p); ok {
				out = append(out, leg)
			}
		}
	}
	return out
}

func (w *World) leg(e End, p *Node) (Leg, bool) {
	to := w.PeerEnds(p, e.Address)
	if len(to) == 0 {
		return Leg{}, false
	}
	return Leg{e.Address, to[0]}, true
}

// Tunnel is the way that wrapped packets to p take, and how many bytes wrapping adds.
func (w *World) Tunnel(p *Node) (leg Leg, overhead int, ok bool) {
	ends := w.Ends()
	if len(ends) == 0 {
		return Leg{}, 0, false
	}
	leg, ok = w.leg(ends[0], p)
	return leg, overheadOf(leg.From), ok
}

// outer is the largest packet that leaves this node to others from e: no larger than
// what the interface with its address takes, unless that is the loopback, by which
// nothing leaves, nor than the least of the ways. Where no way is known it is the
// default route's.
func (w *World) outer(e End) int {
	mtu := e.Interface.MTU
	if e.Interface.Name == "lo" {
		mtu = 0
	}
	way := w.Underlay.of(e.Address)
	for _, x := range w.Kernel.Exits {
		if mtu == 0 && way == 0 && x.Address.Is4() == e.Address.Is4() {
			way = x.MTU
		}
	}
	switch {
	case mtu == 0 && way == 0:
		return standardMTU
	case mtu == 0 || way != 0 && way < mtu:
		return way
	}
	return mtu
}

func (u *Underlay) of(a netip.Addr) int {
	switch {
	case u == nil:
		return 0
	case a.Is4():
		return u.MTU4
	}
	return u.MTU6
}

// held is mtu, or what the tunnel has where that is less and not everything is seen.
func (u *Underlay) held(mtu int) int {
	if u == nil || u.Held == 0 {
		return mtu
	}
	return min(mtu, u.Held)
}
