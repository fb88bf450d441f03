package world

import (
	"cmp"
	"slices"
)

// Settings of TCP that every network namespace has of its own, as files under
// /proc/sys. They are those of IPv6 too.
const (
	TCPTimestamps = "net/ipv4/tcp_timestamps"
	TCPReuse      = "net/ipv4/tcp_tw_reuse"
)

// TCPKeys are all of them.
var TCPKeys = []string{TCPTimestamps, TCPReuse}

// Values of TCPTimestamps and TCPReuse (Linux Documentation/networking/ip-sysctl.rst).
const (
	TimestampsRandom    = "1" // with an offset of each address pair, or of each connection
	TimestampsMonotonic = "2" // as they are
	ReuseAnywhere       = "1"
)

// TCP is values of these settings. Among what is wanted, "" leaves a setting as it
// is; among what is seen, it says that the kernel has none.
type TCP struct{ Timestamps, Reuse string }

// Of returns the value of a key.
func (t TCP) Of(key string) string {
	if key == TCPReuse {
		return t.Reuse
	}
	return t.Timestamps
}

// TCPSeen is what the node's network namespace and those of its pods have.
type TCPSeen struct {
	Node TCP
	Pods []PodTCP // of attachments whose namespace is seen, sorted by key
}

// PodTCP is what the network namespace of an attachment has.
type PodTCP struct {
	Attachment string // its key
	TCP
	// Refused says why the settings cannot be read or changed; "": they can.
	Refused string
}

// Compare orders what is seen by attachment.
func (p PodTCP) Compare(o PodTCP) int { return cmp.Compare(p.Attachment, o.Attachment) }

// Equal reports whether s and o say the same.
func (s *TCPSeen) Equal(o *TCPSeen) bool { return s.Node == o.Node && slices.Equal(s.Pods, o.Pods) }

// Pod returns what the network namespace of an attachment has, where it is seen.
func (s *TCPSeen) Pod(a *Attachment) (PodTCP, bool) {
	i, ok := slices.BinarySearchFunc(s.Pods, PodTCP{Attachment: a.Key()}, PodTCP.Compare)
	if !ok {
		return PodTCP{}, false
	}
	return s.Pods[i], true
}
