package world

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
)

// MAC is a hardware address.
type MAC [6]byte

// LinkLocal is the IPv6 address that an interface with address m gives itself
// (RFC 4291 appendix A).
func (m MAC) LinkLocal() netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 0x02, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// HashMAC derives a locally administered unicast address from a name. Every
// node derives the same one, so hardware addresses need not be exchanged.
func HashMAC(name string) MAC {
	h := sha256.Sum256([]byte(name))
	m := MAC(h[:6])
	m[0] = m[0]&^0x01 | 0x02
	return m
}

// OverlayMAC is the hardware address of the VXLAN device of the named node.
func OverlayMAC(node string) MAC { return HashMAC("vxlan " + node) }

// ShortHash is twelve hex digits that stand for a name, for places such as
// interface names that have no room for more.
func ShortHash(name string) string {
	h := sha256.Sum256([]byte(name))
	return hex.EncodeToString(h[:6])
}
