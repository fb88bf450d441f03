package plan

import (
	"encoding/binary"
	"net/netip"
)

// at returns the address at offset n from the start of p, and whether there is
// one.
func at(p netip.Prefix, n uint64) (netip.Addr, bool) {
	b := p.Masked().Addr().AsSlice()
	tail := b
	if len(b) == 16 {
		tail = b[8:]
	}
	if len(tail) == 4 {
		sum := uint64(binary.BigEndian.Uint32(tail)) + n
		binary.BigEndian.PutUint32(tail, uint32(sum))
		if sum > 1<<32-1 {
			return netip.Addr{}, false
		}
	} else {
		sum := binary.BigEndian.Uint64(tail) + n
		binary.BigEndian.PutUint64(tail, sum)
		if sum < n {
			return netip.Addr{}, false
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a, p.Contains(a)
}

// lastOffset is the offset of the last usable address of p: the last but one,
// and in a large IPv6 network the one that ends in fffe.
func lastOffset(p netip.Prefix) uint64 {
	host := p.Addr().BitLen() - p.Bits()
	if p.Addr().Is6() {
		host = min(host, 16)
	}
	return 1<<host - 2
}

// subnet returns the n-th network of the given length inside p, and whether
// there is one.
func subnet(p netip.Prefix, bits, n int) (netip.Prefix, bool) {
	if bits < p.Bits() || bits > p.Addr().BitLen() || bits-p.Bits() < 63 && n >= 1<<(bits-p.Bits()) {
		return netip.Prefix{}, false
	}
	b := p.Masked().Addr().AsSlice()
	for i := bits - 1; n > 0 && i >= 0; i, n = i-1, n>>1 {
		if n&1 != 0 {
			b[i/8] |= 0x80 >> (i % 8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, bits), true
}
