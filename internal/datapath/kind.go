package datapath

import "fairlead.dev/fairlead/internal/datapath/link"

// A Kind is what a change is about, for those who count changes or must know
// whom a failure concerns.
type Kind string

// The kinds of change.
const (
	KindRules      Kind = "rules"      // a table, chain, set, element or rule of nftables
	KindLink       Kind = link.Itself  // a network device: whether it is there, up, and its MTU
	KindAddress    Kind = link.Address // an address on a device
	KindOffload    Kind = link.Offload // what a device leaves to hardware
	KindSetting    Kind = "setting"    // a file under /proc/sys
	KindNeighbour  Kind = "neighbour"  // a hardware address of an IP address
	KindForwarding Kind = "forwarding" // a tunnel endpoint of a hardware address
	KindRoute      Kind = "route"
)

// Kinds are all there are.
var Kinds = []Kind{KindRules, KindLink, KindAddress, KindOffload, KindSetting, KindNeighbour, KindForwarding, KindRoute}

// Kinds returns how many changes there are of each kind.
func (c Changes) Kinds() map[Kind]int {
	out := map[Kind]int{}
	if len(c.nft) > 0 {
		out[KindRules] = len(c.nft)
	}
	for _, s := range c.steps {
		out[s.kind]++
	}
	return out
}
