package gate

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Who was looked up a moment ago sends the next packet too, and in a large cluster a
// trie is deep. So a gate at the entrance remembers IPv4 sources that it found: each in
// the slot that its address leads to, together with the generation of the list. An
// array is the generation, in its first 8 bytes, and the slots, of 8 bytes each.
//
// Nobody who is taken from the list may be remembered, not even by a packet that was
// under way meanwhile: see forgetting.

const (
	recentName  = Prefix + "recent"
	recentSlots = 1 << 10
	recentSize  = 8 + 8*recentSlots
	// generations: they are one byte, so that no packet sees half of one. In
	// generation 0 nothing is remembered.
	generations = 1 << 8
)

// recent is the contents of a new array: slots that no source fits.
func recent(generation uint64) []byte {
	out := binary.NativeEndian.AppendUint64(make([]byte, 0, recentSize), generation)
	for range recentSlots {
		out = binary.NativeEndian.AppendUint64(out, ^uint64(0))
	}
	return out
}

func newRecent() (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Name: recentName, Type: ebpf.Array, KeySize: 4, ValueSize: recentSize, MaxEntries: 1,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: recent(1)}}})
}

// forgetting calls do, which takes sources from the list, while the gate remembers
// nobody. A packet that began before may write down whom it found behind us: under a
// generation that is over. Whoever dies in between leaves a gate that looks up each.
func forgetting(p *ebpf.Program, do func() error) error {
	m, err := mapOf(p, recentName)
	if err != nil {
		return err
	}
	defer m.Close()
	was := make([]byte, recentSize)
	if err := m.Lookup(uint32(0), &was); err != nil {
		return fmt.Errorf("read who was seen of late: %w", err)
	}
	if err := m.Put(uint32(0), recent(0)); err != nil {
		return fmt.Errorf("forget who was seen of late: %w", err)
	}
	if err := do(); err != nil {
		return err
	}
	return m.Put(uint32(0), recent(binary.NativeEndian.Uint64(was)%(generations-1)+1))
}

// Registers of remembered, which the helper leaves alone: the packet's own are not
// needed any more.
const (
	slot  = asm.R7
	known = asm.R8 // the source and, before it, the generation
)

// remembered passes who is in his slot, of the source in R5; others are looked up, and
// then are.
func remembered(m maps, lookUp asm.Instructions) asm.Instructions {
	out := asm.Instructions{
		asm.LoadMapValue(slot, m.recent, 0),
		asm.LoadMem(known, slot, 0, asm.DWord),
		asm.LSh.Imm(known, 32), asm.Or.Reg(known, asm.R5),
		asm.Mov.Reg(asm.R1, asm.R5), asm.RSh.Imm(asm.R1, 16), asm.Xor.Reg(asm.R1, asm.R5),
		asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 8), asm.Xor.Reg(asm.R1, asm.R2),
		asm.And.Imm(asm.R1, recentSlots-1), asm.LSh.Imm(asm.R1, 3),
		asm.Add.Reg(slot, asm.R1),
		asm.LoadMem(asm.R1, slot, 8, asm.DWord),
		asm.JEq.Reg(asm.R1, known, "pass"),
	}
	out = append(out, lookUp...)
	return append(out,
		asm.Mov.Reg(asm.R1, known).WithSymbol("remember"), asm.RSh.Imm(asm.R1, 32),
		asm.JEq.Imm(asm.R1, 0, "pass"),
		asm.StoreMem(slot, 8, known, asm.DWord),
		asm.Ja.Label("pass"))
}
