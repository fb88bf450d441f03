package world

// A ForwardDrop is a packet filter of somebody else's that drops what pods send or
// receive on its way through the node.
type ForwardDrop struct {
	Filter Filter
	IPv6   bool
	Way    Way
	By     string // what of the filter does it, in words
	// Accepting: both our rules that accept are in the filter, and it drops all the same.
	Accepting bool
}

// A Filter is a base chain of the forward hook.
type Filter struct {
	Family string // as nft(8) has it: ip, ip6, inet
	Table  string
	Chain  string
	Legacy bool // it is iptables-legacy's, and not of nftables
}

// A Way is where packets go, in words.
type Way string

// The ways of pods' packets through a node.
const (
	BetweenPods Way = "between pods"
	FromPods    Way = "from pods to the outside"
	ToPods      Way = "from the outside to pods"
)
