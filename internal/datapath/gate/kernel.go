package gate

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
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
	sourcesName = Prefix + "sources"
	// mostSources bounds a trie. It takes memory for what is in it only.
	mostSources = 1 << 18
	// keyLength is that of a prefix's length, a family, and an address. IPv4 is not
	// inside of IPv6: ::/0 is none of its prefixes.
	keyLength  = 4 + 4 + 16
	familyBits = 32
)

const family4, family6 = 4, 6

var bitsOf = map[int32]int32{family4: 32, family6: 128}

// attach puts the program in front of the others at its link, or in the place of
// one of ours. A link that is not there lets nothing in.
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
	o := link.RawAttachProgramOptions{Target: dev.Index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()}
	old, first, err := ours(dev.Index)
	for _, o := range old {
		defer o.Close()
	}
	if err != nil {
		return err
	}
	if first {
		o.Anchor, old = link.ReplaceProgram(old[0]), old[1:]
	}
	if err := link.RawAttachProgram(o); err != nil {
		if errors.Is(err, unix.ENODEV) {
			return nil // it went meanwhile
		}
		return err
	}
	for _, o := range old { // nobody but us makes these, and we make one
		err = errors.Join(err, remove(dev.Index, o))
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
		trie, err := ebpf.NewMap(&ebpf.MapSpec{Name: sourcesName, Type: ebpf.LPMTrie, KeySize: keyLength, ValueSize: 4,
			MaxEntries: mostSources, Flags: noPrealloc})
		if err != nil {
			return nil, err
		}
		defer trie.Close()
		if err := put(trie, g.Sources); err != nil {
			return nil, err
		}
		m.sources = trie.FD()
	}
	return ebpf.NewProgram(&ebpf.ProgramSpec{Name: nameOf(g), Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
		Instructions: code(g, m), License: license})
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

// fill changes what is in the trie of a link's gate.
func fill(name string, come, gone []netip.Prefix) error {
	return ofGate(name, func(p *ebpf.Program) error {
		trie, err := mapOf(p, sourcesName)
		if err != nil {
			return err
		}
		defer trie.Close()
		if err := put(trie, come); err != nil {
			return err
		}
		for _, g := range gone {
			if err := trie.Delete(keyOf(g)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("%s: %w", g, err)
			}
		}
		return nil
	})
}

// Refused is how many packets a link's gate has refused, by reason.
func Refused(name string) (counts [reasons]uint64, err error) {
	err = ofGate(name, func(p *ebpf.Program) error {
		m, err := mapOf(p, refusedName)
		if err != nil {
			return err
		}
		defer m.Close()
		return m.Lookup(uint32(0), &counts)
	})
	return counts, err
}

// detach opens the gate of a link; one that is gone has none.
func detach(name string) error {
	dev, err := device(name)
	if dev == nil || err != nil {
		return err
	}
	old, _, err := ours(dev.Index)
	for _, o := range old {
		err = errors.Join(err, remove(dev.Index, o), o.Close())
	}
	return err
}

func remove(index int, p *ebpf.Program) error {
	return link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXIngress})
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

// ofGate calls do with the program of a link's gate.
func ofGate(name string, do func(*ebpf.Program) error) error {
	dev, err := device(name)
	if dev == nil || err != nil {
		return cmp.Or(err, ErrNone)
	}
	all, _, err := ours(dev.Index)
	for _, p := range all {
		defer p.Close()
	}
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return ErrNone
	}
	return do(all[0])
}

// ours are the programs of ours at a link, and whether one of them is asked before
// those of others: behind one that lets a packet in no other is asked. A kernel
// without tcx has none.
func ours(index int) (out []*ebpf.Program, first bool, err error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
			return nil, false, nil
		}
		return nil, false, err
	}
	for i, a := range r.Programs {
		p, err := ebpf.NewProgramFromID(a.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return out, first, err
		}
		if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, Prefix) {
			out, first = append(out, p), first || i == 0
		} else {
			p.Close()
		}
	}
	return out, first, nil
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

// Read lists the gates of the named links.
func Read(links []string) ([]Gate, error) {
	var out []Gate
	for _, name := range links {
		g, found, err := readOne(name)
		if err != nil {
			return nil, fmt.Errorf("programs of %s: %w", name, err)
		}
		if found {
			out = append(out, g)
		}
	}
	return out, nil
}

func readOne(name string) (Gate, bool, error) {
	dev, err := device(name)
	if dev == nil || err != nil { // it went, with all that was on it
		return Gate{}, false, err
	}
	all, first, err := ours(dev.Index)
	for _, p := range all {
		defer p.Close()
	}
	if err != nil || len(all) == 0 {
		return Gate{}, false, err
	}
	info, err := all[0].Info()
	if err != nil {
		return Gate{}, false, err
	}
	p := program{name: info.Name}
	if len(all) > 1 {
		p.name += " and others"
	}
	if !first {
		p.name += " behind others"
	}
	if p.sources, err = sourcesOf(all[0]); err != nil {
		return Gate{}, false, err
	}
	return Gate{Link: name, found: &p}, true, nil
}

// sourcesOf is what is in the trie of a program, if it has one.
func sourcesOf(p *ebpf.Program) (out []netip.Prefix, err error) {
	trie, err := mapOf(p, sourcesName)
	if errors.Is(err, errNoMap) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer trie.Close()
	var key []byte
	var value uint32
	all := trie.Iterate()
	for all.Next(&key, &value) {
		if s, ok := prefixOf(key); ok {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out, all.Err()
}
