package gate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// Read lists the gates at the entrance of links whose names begin with prefix, and
// those at the exit of all others.
func Read(prefix string) ([]Gate, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []Gate
	for _, l := range links {
		a := l.Attrs()
		g, found, err := readOne(a.Index, place{a.Name, !strings.HasPrefix(a.Name, prefix)})
		if err != nil {
			return nil, fmt.Errorf("programs of %s: %w", a.Name, err)
		}
		if found {
			out = append(out, g)
		}
	}
	return out, nil
}

// readOne reads one gate. A link that went has none, as all that was on it.
func readOne(index int, at place) (Gate, bool, error) {
	had, err := holding(index, at)
	defer had.close()
	if err != nil || len(had.ours) == 0 {
		return Gate{}, false, err
	}
	info, err := had.ours[0].Info()
	if err != nil {
		return Gate{}, false, err
	}
	p := program{name: info.Name, filter: had.filter}
	if len(had.ours) > 1 {
		p.name += " and others"
	}
	if had.behind {
		p.name += " behind others"
	}
	if p.trie, err = trieOf(had.ours[0]); err != nil {
		return Gate{}, false, err
	}
	return Gate{Link: at.link, Egress: at.egress, found: &p}, true, nil
}

// trieOf is what is in the trie of a program, if it has one.
func trieOf(p *ebpf.Program) (out []netip.Prefix, err error) {
	trie, err := mapOf(p, trieName)
	if errors.Is(err, errNoMap) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer trie.Close()
	var at ebpf.MapBatchCursor
	keys, values := make([]trieKey, atOnce), make([]uint32, atOnce)
	for len(out) <= 2*mostSources { // one that changes meanwhile may be begun again
		n, err := trie.BatchLookup(&at, keys, values, nil)
		for _, key := range keys[:n] {
			if s, ok := prefixOf(key[:]); ok {
				out = append(out, s)
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break // these were the last
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

// atOnce is how many prefixes of a trie are read at once.
const atOnce = 1 << 10

type trieKey = [keyLength]byte
