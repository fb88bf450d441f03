package scenario

import (
	"net/netip"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

const (
	// seenWithin is how long packets may take to be seen.
	seenWithin = 3 * time.Second
	// silence is how long nothing has to be seen of a packet that is dropped.
	// What comes through comes at once: all wires are in this machine.
	silence = 150 * time.Millisecond
	// tokenStep keeps tokens apart from the sequence numbers of resets.
	tokenStep = 16
)

// send proves every line of packets on one stage, in order.
func (s *scenario) send(t *testing.T) {
	st := s.setStage(t)
	for i, l := range s.packets {
		t.Run(l.text, func(t *testing.T) {
			on := *st
			on.t = t
			on.play(l, uint32(i+1)<<16)
		})
	}
}

// play sends the packets of l, with tokens from the given one on, and looks for
// them where l says.
func (st *stage) play(l line, token uint32) {
	st.t.Helper()
	sent := map[uint32]packet{}
	for i, port := range l.sendPorts() {
		p := packet{protocol: l.protocol, token: token + uint32(i)*tokenStep}
		from, to := st.address(l.from, l.to), st.address(l.to, l.from)
		p.from, p.to = netip.AddrPortFrom(from, port), netip.AddrPortFrom(to, l.to.ports.Low)
		sent[p.token] = p
		st.emit(l, p)
	}
	switch {
	case l.refused:
		st.expectRefusal(l, sent)
	case l.seen == nil:
		st.expectSilence(sent)
	default:
		st.expect(l, sent)
	}
}

// address is an end's address; a pod's is of the family of the other end.
func (st *stage) address(e, other end) netip.Addr {
	st.t.Helper()
	if e.pod == "" {
		return e.addr
	}
	addrs := st.pod(e.pod).Addresses
	for _, a := range addrs {
		if !other.addr.IsValid() || a.Is4() == other.addr.Is4() {
			return a
		}
	}
	st.t.Fatalf("pod %s has no address of the family of %s", e.pod, other.addr)
	return netip.Addr{}
}

func (st *stage) pod(name string) *podOnStage {
	st.t.Helper()
	p, ok := st.pods[name]
	if !ok {
		st.t.Fatalf("no pod %s is on the stage", name)
	}
	return p
}

// emit sends p from where l says that it comes from.
func (st *stage) emit(l line, p packet) {
	st.t.Helper()
	switch {
	case l.wrapped.IsValid():
		st.fromOverlay(l.wrapped, l.number, p)
	case l.sender() != "":
		if !st.local(p.to.Addr()) {
			st.introduce(p.to.Addr())
		}
		if err := st.pod(l.sender()).out.send(p.to.Addr(), p.bytes()); err != nil {
			st.t.Fatal(err)
		}
	default:
		st.fromOutside(st.introduce(p.from.Addr()), p)
	}
}

// local reports whether a is in the node's own pod network.
func (st *stage) local(a netip.Addr) bool {
	for _, c := range st.world.Node.PodCIDRs {
		if c.Contains(a) {
			return true
		}
	}
	return false
}

func (st *stage) fromOutside(link string, p packet) {
	st.t.Helper()
	x, ok := st.outside[link]
	if !ok {
		st.t.Fatalf("%s is not outside", p.from)
	}
	x.write(ethernet(x.mac, st.nodeMAC[link], p.bytes()))
}

// fromOverlay sends p as the node at the given address would.
func (st *stage) fromOverlay(node netip.Addr, number uint16, p packet) {
	st.t.Helper()
	link := st.introduce(node)
	x := st.outside[link]
	from := world.HashMAC("another node")
	if number != 0 { // who it is matters there
		from = st.peerMAC(node)
	}
	t := st.tunnelTo(node, number)
	t.from, t.to = t.to, t.from
	outer := t.wrap(ethernet(from, st.world.Node.MAC, p.bytes()))
	x.write(ethernet(x.mac, st.nodeMAC[link], outer))
}

// expect looks for every packet that was sent, and judges how it is seen.
func (st *stage) expect(l line, sent map[uint32]packet) {
	st.t.Helper()
	at := st.place(l.seen)
	seen := map[uint32]sight{}
	at.see(seenWithin, func(s sight) bool {
		if _, ours := sent[s.token]; ours && !s.refused {
			if _, twice := seen[s.token]; twice {
				st.t.Errorf("the packet from %s was seen twice", sent[s.token].from)
			}
			seen[s.token] = s
		}
		return len(seen) == len(sent)
	})
	if len(seen) < len(sent) {
		st.t.Errorf("%d of %d packets were not seen on %s", len(sent)-len(seen), len(sent), at.name)
	}
	st.judge(l, sent, seen)
	if l.seen.back && !st.t.Failed() {
		st.answer(l, sent, seen)
	}
}

// place is the tap where a sighting is to be.
func (st *stage) place(s *sighting) *tap {
	st.t.Helper()
	if s.at != "" {
		return st.pod(s.at).in
	}
	link := s.on
	if link == "" {
		link = st.first
	}
	if s.vxlan.IsValid() {
		link = st.introduce(s.vxlan)
	}
	x, ok := st.outside[link]
	if !ok {
		st.t.Fatalf("the node has no interface %s", link)
	}
	return x
}

// answer sends the answer to every packet as it was seen, and looks for it where
// the packet came from, addressed to the sender as it was.
func (st *stage) answer(l line, sent map[uint32]packet, seen map[uint32]sight) {
	st.t.Helper()
	for _, s := range seen {
		r := s.reply()
		switch {
		case l.seen.vxlan.IsValid():
			st.fromOverlay(l.seen.vxlan, l.seen.number, r)
		case l.seen.at != "":
			if err := st.pod(l.seen.at).out.send(r.to.Addr(), r.bytes()); err != nil {
				st.t.Fatal(err)
			}
		default:
			st.fromOutside(st.introduce(r.from.Addr()), r)
		}
	}
	back := map[uint32]bool{}
	st.origin(l).see(seenWithin, func(s sight) bool {
		p, ours := sent[s.token]
		if !ours || !s.answer || s.refused {
			return false
		}
		if s.from != p.to || s.to != p.from || s.damage != "" {
			st.t.Errorf("the answer came from %s to %s %s, want %s to %s", s.from, s.to, s.damage, p.to, p.from)
		}
		back[s.token] = true
		return len(back) == len(sent)
	})
	if len(back) < len(sent) {
		st.t.Errorf("%d of %d answers did not come back", len(sent)-len(back), len(sent))
	}
}

// origin is the tap where a line's packets come from.
func (st *stage) origin(l line) *tap {
	st.t.Helper()
	switch {
	case l.from.pod != "":
		return st.pod(l.from.pod).in
	case l.wrapped.IsValid():
		return st.outside[st.introduce(l.wrapped)]
	default:
		return st.outside[st.introduce(l.from.addr)]
	}
}
