package cni

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// given is the address that was given last of each pod CIDR. The next one is
// behind it, so that an address rests for a while before somebody else has it:
// connections and caches elsewhere still know its last holder.
type given map[netip.Prefix]netip.Addr

func lastFile(stateDir string) string { return filepath.Join(stateDir, "last-given.json") }

// readGiven reads what was given last. Where that cannot be read, one begins
// at the front.
func readGiven(file string) (given, error) {
	out := given{}
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &out)
	}
	if err != nil || out == nil {
		return given{}, replace.Aside(file, cmp.Or(err, errors.New("it is not as it was written")))
	}
	return out, nil
}

func (g given) write(file string) error {
	content, err := json.Marshal(g)
	if err != nil {
		return err
	}
	return replace.File(file, content, 0o600)
}

// pick is the first address behind last that is not taken, and at the end of
// the CIDR begins again at its front.
func pick(c netip.Prefix, taken map[netip.Addr]bool, last netip.Addr) (netip.Addr, bool) {
	first, end := usable(c)
	if !first.IsValid() || end.Less(first) {
		return netip.Addr{}, false
	}
	a := last.Next()
	// As many are taken as there are keys at most: one more try finds one.
	for range len(taken) + 1 {
		if a.Compare(first) < 0 || a.Compare(end) > 0 {
			a = first
		}
		if !taken[a] {
			return a, true
		}
		a = a.Next()
	}
	return netip.Addr{}, false
}

// usable are the first and last addresses of c that a pod can have: not the
// network's, not the node's own behind it, and in IPv4 not the broadcast address.
func usable(c netip.Prefix) (first, last netip.Addr) {
	b := c.Masked().Addr().AsSlice()
	for bit := c.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	if last.Is4() {
		last = last.Prev()
	}
	return c.Masked().Addr().Next().Next(), last
}

// poolSize is how many addresses there are in c for pods.
func poolSize(c netip.Prefix) int {
	bits := c.Addr().BitLen() - c.Bits()
	if bits > 30 {
		return doctor.Countless
	}
	reserved := 2
	if c.Addr().Is4() {
		reserved = 3
	}
	return max(1<<bits-reserved, 0)
}

// taken are all addresses in the book.
func (b *Book) taken() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, r := range b.list {
		for _, a := range r.Addresses {
			out[a] = true
		}
	}
	return out
}

// Pools counts the addresses of each CIDR that attachments have.
func Pools(at *world.Attachments, cidrs []netip.Prefix) []doctor.Pool {
	taken := map[netip.Addr]bool{}
	for _, a := range at.List {
		for _, addr := range a.Addresses {
			taken[addr] = true
		}
	}
	var out []doctor.Pool
	for _, c := range cidrs {
		p := doctor.Pool{CIDR: c.String(), Size: poolSize(c)}
		for a := range taken {
			if c.Contains(a) {
				p.Used++
			}
		}
		out = append(out, p)
	}
	return out
}
