package firewall

import "strings"

// A flow is packets of one kind: the first of a TCP connection, of one family, from
// one interface to another, without a mark and not translated. What is not said of
// it may be anything.
type flow struct {
	ipv6    bool
	in, out names
}

// names are interfaces: one by its name, all whose names begin alike, or, zero, one
// that is not known.
type names struct {
	name string
	many bool // name is the beginning
}

// are reports whether the names fit a pattern: a name, or a beginning with many set.
func (n names) are(pattern names) answer {
	switch {
	case pattern.many && pattern.name == "":
		return yes
	case n.name == "":
		return maybe
	case pattern.many && strings.HasPrefix(n.name, pattern.name):
		return yes
	case n.many && strings.HasPrefix(pattern.name, n.name):
		return maybe // some of them
	case pattern.many || n.many:
		return no
	}
	return isIt(n.name == pattern.name)
}

// Of a packet's connection, as include/uapi/linux/netfilter/nf_conntrack_common.h has
// it: it is new, and nothing of it was translated.
const (
	stateNew  = 1 << 3
	protoTCP  = 6
	nfproto4  = 2
	nfproto6  = 10
	proxyMark = 0x4000 // kube-proxy's, on what it masquerades and nothing else
)

func (f flow) nfproto() byte {
	if f.ipv6 {
		return nfproto6
	}
	return nfproto4
}
