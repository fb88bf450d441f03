package scenario

import (
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/world"
)

// judge compares every packet as it was seen with what the line says.
func (st *stage) judge(l line, sent map[uint32]packet, seen map[uint32]sight) {
	st.t.Helper()
	want := l.seen
	for token, s := range seen {
		p := sent[token]
		ports := want.as.ports
		if want.kept {
			ports = world.PortRange{Low: p.from.Port(), High: p.from.Port()}
		}
		to := p.to
		if want.to.IsValid() {
			to = want.to
		}
		switch {
		case s.damage != "":
			st.t.Errorf("the packet from %s has %s", p.from, s.damage)
		case s.from.Addr() != want.as.addr && want.as.addr.IsValid():
			st.t.Errorf("the packet from %s was seen as %s, want %s", p.from, s.from, want.as.addr)
		case ports.High != 0 && !ports.Contains(s.from.Port()):
			st.t.Errorf("the packet from %s was seen as %s, want port %s", p.from, s.from, ports)
		case s.to != to:
			st.t.Errorf("the packet to %s was seen to %s, want %s", p.to, s.to, to)
		case want.vxlan.IsValid() && s.through != st.tunnelTo(want.vxlan, want.number):
			st.t.Errorf("the packet went through %+v, want %+v", s.through, st.tunnelTo(want.vxlan, want.number))
		case want.vxlan.IsValid() && s.mac != st.peerMAC(want.vxlan):
			st.t.Errorf("the inner frame is for %x, want %x", s.mac, st.peerMAC(want.vxlan))
		case !want.vxlan.IsValid() && s.through != tunnel{}:
			st.t.Errorf("the packet went through the overlay: %+v", s.through)
		}
	}
	if want.random {
		st.judgeRandom(want.as.ports, sent, seen)
	}
}

// judgeRandom wants ports that have nothing to do with those sent, and no part
// of the range left out.
func (st *stage) judgeRandom(r world.PortRange, sent map[uint32]packet, seen map[uint32]sight) {
	st.t.Helper()
	if len(seen) < 2*packetsPerPlace {
		st.t.Fatalf("%d packets do not show whether ports are random: send more", len(seen))
	}
	places := make([]int, min(16, len(seen)/packetsPerPlace))
	kept := 0
	for token, s := range seen {
		if s.from.Port() == sent[token].from.Port() {
			kept++
		}
		if r.Contains(s.from.Port()) {
			places[int(s.from.Port()-r.Low)*len(places)/r.Len()]++
		}
	}
	// A random port is the one sent once in r.Len() times.
	if allowed := 4 + 4*len(seen)/r.Len(); kept > allowed {
		st.t.Errorf("%d of %d packets kept their port: not random", kept, len(seen))
	}
	for i, n := range places {
		if n == 0 {
			st.t.Errorf("of %d packets none was seen in part %d of %d of %s: not random, %v", len(seen), i+1, len(places), r, places)
		}
	}
}

// tunnelTo is the overlay's tunnel to the node at an address.
func (st *stage) tunnelTo(node netip.Addr, number uint16) tunnel {
	if number != 0 {
		return tunnel{st.end(node), node, datapath.EgressPort, datapath.EgressVNI, number}
	}
	return tunnel{st.end(node), node, st.world.Config.Overlay.Port, st.world.Config.Overlay.VNI, 0}
}

// end is the node's end of the overlay of the family of like.
func (st *stage) end(like netip.Addr) netip.Addr {
	for _, e := range st.world.Ends() {
		if e.Address.Is4() == like.Is4() {
			return e.Address
		}
	}
	return netip.Addr{}
}

// peerMAC is the hardware address of a peer's VXLAN device, which follows from
// the peer's name on every node.
func (st *stage) peerMAC(node netip.Addr) world.MAC {
	for _, n := range st.world.Peers.Nodes {
		if slices.Contains(n.Addresses, node) || slices.Contains(n.Ends, node) {
			return world.OverlayMAC(n.Name)
		}
	}
	return world.MAC{}
}

// expectRefusal looks for an ICMP error at the sender for each packet.
func (st *stage) expectRefusal(l line, sent map[uint32]packet) {
	st.t.Helper()
	left := len(sent)
	st.origin(l).see(seenWithin, func(s sight) bool {
		if _, ours := sent[s.token]; ours && s.refused {
			left--
		}
		return left == 0
	})
	if left > 0 {
		st.t.Errorf("%d of %d packets were not answered with unreachable", left, len(sent))
	}
}

// expectSilence wants nothing of the packets to be seen anywhere.
func (st *stage) expectSilence(sent map[uint32]packet) {
	st.t.Helper()
	taps := []*tap{}
	for _, x := range st.outside {
		taps = append(taps, x)
	}
	for _, p := range st.pods {
		taps = append(taps, p.in)
	}
	for _, x := range taps {
		x.see(silence, func(s sight) bool {
			if p, ours := sent[s.token]; ours {
				st.t.Errorf("the packet from %s to %s was seen on %s as %s", p.from, p.to, x.name, s.from)
			}
			return false
		})
	}
}
