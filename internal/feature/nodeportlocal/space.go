package nodeportlocal

import (
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// spaces are the numbers of the range, of each family and protocol by itself.
type spaces struct {
	ports world.PortRange
	of    [2][3]space // by whether the family is IPv6, and by protocol
	pairs [3]int      // for each protocol, below this no number is new in both families
}

// space is the numbers of one family and protocol. Where none was asked for yet it
// has no slots.
type space struct {
	slots []slot
	open  int      // how many slots are nobody's
	fresh int      // below this no slot is new
	freed []uint16 // in the order in which they were given back
	queue []uint16 // those of them that were not looked at
}

// slot is one number.
type slot struct {
	mapping int32 // one more than the index of the mapping that has it; 0: none
	freed   bool
	taken   bool // by others
}

func (s *slot) open() bool  { return s.mapping == 0 && !s.taken }
func (s *slot) isNew() bool { return s.open() && !s.freed }

// in is the space of p.
func (s *spaces) in(p world.Port) *space {
	six := 0
	if p.IPv6 {
		six = 1
	}
	out := &s.of[six][max(0, slices.Index(protocols, p.Protocol))]
	if out.slots == nil {
		out.slots, out.open = make([]slot, s.ports.Len()), s.ports.Len()
	}
	return out
}

// slot is nil where p is outside the range.
func (s *spaces) slot(p world.Port) *slot {
	if !s.ports.Contains(p.Number) || world.ProtocolName(p.Protocol) == "" {
		return nil
	}
	return &s.in(p).slots[p.Number-s.ports.Low]
}

// take gives p to a mapping, and reports whether it could be had.
func (s *spaces) take(p world.Port, mapping int) bool {
	slot := s.slot(p)
	if slot == nil || !slot.open() {
		return false
	}
	slot.mapping = int32(mapping) + 1
	s.in(p).open--
	return true
}

// leave leaves p to others.
func (s *spaces) leave(p world.Port) {
	if slot := s.slot(p); slot != nil && !slot.taken {
		slot.taken = true
		s.in(p).open--
	}
}

// release takes p, which a mapping has, from it.
func (s *spaces) release(p world.Port) {
	s.slot(p).mapping = 0
	s.in(p).open++
}

// look has what was given back looked at from the first on.
func (s *spaces) look() {
	for six := range s.of {
		for i := range s.of[six] {
			s.of[six][i].queue = s.of[six][i].freed
		}
	}
}

// forget has those of the mappings' ports that were given back be as those that nobody
// gave back, and reports whether there were any.
func (s *spaces) forget(mappings []Mapping) (any bool) {
	for i := range mappings {
		p := mappings[i].Port
		slot := s.slot(p)
		if mappings[i].HostPort || slot == nil || !slot.freed {
			continue
		}
		any, slot.freed = true, false
		in := s.in(p)
		at := slices.Index(in.freed, p.Number)
		in.freed = slices.Concat(in.freed[:at], in.freed[at+1:])
	}
	return any
}

// free notes ports that were given back, the longest ago first.
func (s *spaces) free(list []world.Port) {
	for _, p := range list {
		slot := s.slot(p)
		if slot == nil || slot.freed {
			continue
		}
		slot.freed = true
		in := s.in(p)
		in.freed = append(in.freed, p.Number)
		in.queue = in.freed
	}
}

// freed are the ports that were given back and are nobody's.
func (s *spaces) freed() []world.Port {
	var out []world.Port
	for six, protocolSpaces := range s.of {
		for i, in := range protocolSpaces {
			for _, n := range in.freed {
				if in.slots[n-s.ports.Low].mapping == 0 {
					out = append(out, world.Port{IPv6: six == 1, Protocol: protocols[i], Number: n})
				}
			}
		}
	}
	return out
}

// next is a number for p: one that nobody had, or the one given back longest ago;
// 0 where none is left.
func (s *spaces) next(p world.Port) uint16 {
	in := s.in(p)
	for ; in.fresh < len(in.slots); in.fresh++ {
		if in.slots[in.fresh].isNew() {
			return s.ports.Low + uint16(in.fresh)
		}
	}
	for ; len(in.queue) > 0; in.queue = in.queue[1:] {
		if in.slots[in.queue[0]-s.ports.Low].open() {
			return in.queue[0]
		}
	}
	return 0
}

// both is a number that nobody had in either family; 0 where none is left.
func (s *spaces) both(protocol byte) uint16 {
	four, six := s.in(world.Port{Protocol: protocol}), s.in(world.Port{Protocol: protocol, IPv6: true})
	at := &s.pairs[max(0, slices.Index(protocols, protocol))]
	for ; *at < len(four.slots); *at++ {
		if four.slots[*at].isNew() && six.slots[*at].isNew() {
			return s.ports.Low + uint16(*at)
		}
	}
	return 0
}

// left is how many numbers are nobody's, in the space that has fewest of them.
func (s *spaces) left() int {
	out := s.ports.Len()
	for _, protocolSpaces := range s.of {
		for _, in := range protocolSpaces {
			if in.slots != nil {
				out = min(out, in.open)
			}
		}
	}
	return out
}
