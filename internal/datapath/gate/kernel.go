package gate

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Prefix begins the names of programs and maps.
const Prefix = "fl_"

const (
	refusedName = Prefix + "refused"
	trieName    = Prefix + "sources"
	// mostSources bounds a trie. It takes memory for what is in it only.
	mostSources = 1 << 18
	// keyLength is that of a prefix's length, a family, and an address. IPv4 is not
	// inside of IPv6: ::/0 is none of its prefixes.
	keyLength  = 4 + 4 + 16
	familyBits = 32
)

const family4, family6 = 4, 6

var bitsOf = map[int32]int32{family4: 32, family6: 128}

// hook is where the programs of a place are attached.
func (p place) hook() ebpf.AttachType {
	if p.egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

// attach puts the program of a gate at its link. A link that is not there lets nothing
// in.
func attach(g Gate) error {
	dev, err := device(g.Link)
	if dev == nil || err != nil {
		return err
	}
	p, err := loaded(g)
	if err != nil {
		return err
	}
	defer p.Close()
	if !g.young() {
		return attachFirst(dev.Index, g.at(), p)
	}
	h, err := holding(dev.Index, g.at())
	h.close()
	if err != nil {
		return err
	}
	if (len(h.ours) == 0 || h.filter) && !h.behind && attachFilter(dev.Index, p) == nil {
		return nil
	}
	if err := attachFirst(dev.Index, g.at(), p); err != nil {
		return err // a filter that is there keeps the wire shut
	}
	return detachFilter(dev.Index)
}

// attachFirst puts the program in front of the others in tcx, or in the place of one of
// ours.
func attachFirst(index int, at place, p *ebpf.Program) error {
	o := link.RawAttachProgramOptions{Target: index, Program: p, Attach: at.hook(), Anchor: link.Head()}
	had, err := inTCX(index, o.Attach)
	defer had.close()
	if err != nil {
		return err
	}
	old := had.ours
	if len(old) > 0 && !had.behind {
		o.Anchor, old = link.ReplaceProgram(old[0]), old[1:]
	}
	if err := link.RawAttachProgram(o); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return nil // it went meanwhile
		}
		return err
	}
	for _, o := range old { // nobody but us makes these, and we make one
		err = errors.Join(err, remove(index, at.hook(), o))
	}
	return err
}

// loaded is the program of a gate with its maps, which live as long as it does.
func loaded(g Gate) (*ebpf.Program, error) {
	refused, err := ebpf.NewMap(&ebpf.MapSpec{Name: refusedName, Type: ebpf.Array, KeySize: 4, ValueSize: 8 * uint32(reasons), MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	defer refused.Close()
	m := maps{refused: refused.FD()}
	if g.hasTrie() {
		trie, err := ebpf.NewMap(&ebpf.MapSpec{Name: trieName, Type: ebpf.LPMTrie, KeySize: keyLength, ValueSize: 4,
			MaxEntries: mostSources, Flags: noPrealloc})
		if err != nil {
			return nil, err
		}
		defer trie.Close()
		if err := put(trie, g.trie()); err != nil {
			return nil, err
		}
		m.sources = trie.FD()
	}
	if g.remembers() {
		recent, err := newRecent()
		if err != nil {
			return nil, err
		}
		defer recent.Close()
		m.recent = recent.FD()
	}
	instructions := code(g, m)
	return ebpf.NewProgram(&ebpf.ProgramSpec{Name: nameOf(instructions), Type: ebpf.SchedCLS, AttachType: g.at().hook(),
		Instructions: instructions, License: license})
}

// license: what tells of checksums may be called by programs under the GPL only, so
// the instructions of gates are under it too, besides the license of the rest.
const license = "Dual BSD/GPL"

const noPrealloc = 1 // BPF_F_NO_PREALLOC, which tries need

func put(trie *ebpf.Map, ps []netip.Prefix) error {
	for _, p := range ps {
		if err := trie.Put(keyOf(p), uint32(1)); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

func take(trie *ebpf.Map, ps []netip.Prefix) error {
	for _, p := range ps {
		if err := trie.Delete(keyOf(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// keyOf is a prefix in a trie: its length and its family in the CPU's order, and its
// address.
func keyOf(p netip.Prefix) []byte {
	family := uint32(family6)
	if p.Addr().Is4() {
		family = family4
	}
	key := binary.NativeEndian.AppendUint32(nil, uint32(familyBits+p.Bits()))
	key = append(binary.NativeEndian.AppendUint32(key, family), p.Addr().AsSlice()...)
	return append(key, make([]byte, keyLength-len(key))...)
}

func prefixOf(key []byte) (netip.Prefix, bool) {
	if len(key) != keyLength {
		return netip.Prefix{}, false
	}
	bits := int(binary.NativeEndian.Uint32(key)) - familyBits
	var a netip.Addr
	switch binary.NativeEndian.Uint32(key[4:]) {
	case family4:
		a = netip.AddrFrom4([4]byte(key[8:]))
	case family6:
		a = netip.AddrFrom16([16]byte(key[8:]))
	}
	p := netip.PrefixFrom(a, bits)
	return p, p.IsValid()
}

// fill changes what is in the trie of the gate that is there.
func fill(at place, come, gone []netip.Prefix) error {
	return ofGate(at, func(p *ebpf.Program) error {
		trie, err := mapOf(p, trieName)
		if err != nil {
			return err
		}
		defer trie.Close()
		if err := put(trie, come); err != nil {
			return err
		}
		if len(gone) == 0 || at.egress { // those at the exit remember nobody
			return take(trie, gone)
		}
		return forgetting(p, func() error { return take(trie, gone) })
	})
}

// Counts are numbers of packets by the reason for which they were refused.
type Counts [reasons]uint64

// Refused is how many packets the gate at a link's entrance, or at its exit, has
// refused.
func Refused(name string, egress bool) (counts Counts, err error) {
	err = ofGate(place{name, egress}, func(p *ebpf.Program) error {
		m, err := mapOf(p, refusedName)
		if err != nil {
			return err
		}
		defer m.Close()
		return m.Lookup(uint32(0), &counts)
	})
	return counts, err
}

// detach opens a gate; a link that is gone has none.
func detach(at place) error {
	dev, err := device(at.link)
	if dev == nil || err != nil {
		return err
	}
	had, err := inTCX(dev.Index, at.hook())
	defer had.close()
	for _, o := range had.ours {
		err = errors.Join(err, remove(dev.Index, at.hook(), o))
	}
	if !at.egress {
		err = errors.Join(err, detachFilter(dev.Index))
	}
	return err
}

func remove(index int, hook ebpf.AttachType, p *ebpf.Program) error {
	return link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: p, Attach: hook})
}

// device is a link, or nil if there is no such link.
func device(name string) (*netlink.LinkAttrs, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.Attrs(), nil
}

// ErrNone says that a link has no gate.
var ErrNone = errors.New("the link has no gate")

// ofGate calls do with the program of the gate that is there.
func ofGate(at place, do func(*ebpf.Program) error) error {
	dev, err := device(at.link)
	if dev == nil || err != nil {
		return cmp.Or(err, ErrNone)
	}
	had, err := holding(dev.Index, at)
	defer had.close()
	if err != nil {
		return err
	}
	if len(had.ours) == 0 {
		return ErrNone
	}
	return do(had.ours[0])
}

// held is what a place has of ours.
type held struct {
	ours []*ebpf.Program
	// behind: programs of others are asked before ours, or would be. Behind one that lets
	// a packet in no other is asked.
	behind bool
	filter bool // ours is a filter: see young.go
}

func (h held) close() {
	for _, p := range h.ours {
		p.Close()
	}
}

// holding is what is at a place, in tcx or else as a filter.
func holding(index int, at place) (held, error) {
	h, err := inTCX(index, at.hook())
	if err != nil || len(h.ours) > 0 || at.egress {
		return h, err
	}
	p, behind, err := ofFilter(index)
	h.behind = h.behind || behind
	if p != nil {
		h.ours, h.filter = append(h.ours, p), true
	}
	return h, err
}

// inTCX is what a link has at a hook. A kernel without tcx has nothing.
func inTCX(index int, hook ebpf.AttachType) (h held, err error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: hook})
	if err != nil {
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
			return h, nil
		}
		return h, err
	}
	for _, a := range r.Programs {
		p, err := ebpf.NewProgramFromID(a.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return h, err
		}
		if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, Prefix) {
			h.ours = append(h.ours, p)
			continue
		}
		h.behind = h.behind || len(h.ours) == 0
		p.Close()
	}
	return h, nil
}

// mapOf is the map of a program that has the given name.
func mapOf(p *ebpf.Program, name string) (*ebpf.Map, error) {
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return nil, err
		}
		if info, err := m.Info(); err == nil && info.Name == name {
			return m, nil
		}
		m.Close()
	}
	return nil, fmt.Errorf("%s: %w", name, errNoMap)
}

// errNoMap: a program has no map of the name.
var errNoMap = errors.New("its program has no such map")
