package nft

import (
	"golang.org/x/sys/unix"
)

// An Expr is one word group of a rule. Its two faces stand side by side so that
// they cannot drift apart: the text a person reads, and the code the kernel
// runs.
type Expr interface {
	text() string
	code() []instruction
}

// A Match is an Expr that a packet passes or does not.
type Match interface {
	Expr
	not() Match
}

// Not matches what m does not. Where m is about one family, so is its opposite.
func Not(m Match) Expr { return m.not() }

// A relation is how what a packet has stands to what a match says.
type relation bool

const (
	is    relation = false
	isNot relation = true
)

// text is the relation where nft(8) needs none for is.
func (r relation) text() string {
	if r == isNot {
		return "!= "
	}
	return ""
}

func (r relation) cmp(value []byte) instruction {
	if r == isNot {
		return compare(unix.NFT_CMP_NEQ, value)
	}
	return cmp(value)
}

// Family is an address family.
type Family int

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are both, in the order in which things are listed.
var Families = []Family{IPv4, IPv6}

// AddrType is the set type that holds addresses of family f.
func (f Family) AddrType() Type { return map[Family]Type{IPv4: IPv4Addr, IPv6: IPv6Addr}[f] }

// Keyword is the family as nft(8) has it.
func (f Family) Keyword() string { return map[Family]string{IPv4: "ip", IPv6: "ip6"}[f] }

// Number is the family as the kernel counts (NFPROTO_IPV4, NFPROTO_IPV6).
func (f Family) Number() byte {
	return map[Family]byte{IPv4: unix.NFPROTO_IPV4, IPv6: unix.NFPROTO_IPV6}[f]
}

func isFamily(f Family) []instruction {
	return []instruction{meta(unix.NFT_META_NFPROTO), cmp([]byte{f.Number()})}
}
