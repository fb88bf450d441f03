package nft

import "golang.org/x/sys/unix"

// ICMPv6 matches one type of ICMPv6 messages.
func ICMPv6(t ICMPv6Type) Expr { return icmpv6{t} }

// ICMPv6Type is a type of ICMPv6 messages.
type ICMPv6Type byte

// The types in use (RFC 4861, RFC 2710, RFC 3810).
const (
	MulticastReport    ICMPv6Type = 131
	RouterAdvert       ICMPv6Type = 134
	NeighbourSolicit   ICMPv6Type = 135
	Redirect           ICMPv6Type = 137
	MulticastReportTwo ICMPv6Type = 143
)

type icmpv6 struct{ typ ICMPv6Type }

func (e icmpv6) text() string {
	return "icmpv6 type " + map[ICMPv6Type]string{
		MulticastReport: "mld-listener-report", RouterAdvert: "nd-router-advert", NeighbourSolicit: "nd-neighbor-solicit",
		Redirect: "nd-redirect", MulticastReportTwo: "mld2-listener-report",
	}[e.typ]
}

func (e icmpv6) code() []instruction {
	return append(isFamily(IPv6),
		meta(unix.NFT_META_L4PROTO), cmp([]byte{unix.IPPROTO_ICMPV6}),
		payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1), cmp([]byte{byte(e.typ)}))
}
