package egress

import (
	"cmp"
	"encoding/json"
	"slices"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/world"
)

// Indices are what marks call nodes by. Connections keep their marks for as long as they
// live, so that an index is one node's for good: also of one that is not seen any more,
// as long as there is room.
type Indices struct{ List []Index } // by node

// An Index is what marks call a node by: 1 to 65535.
type Index struct {
	Node  string
	Index uint16
}

const allocated = world.Own[Indices]("EgressIndices")

// Equal reports whether x and y say the same.
func (ix *Indices) Equal(y *Indices) bool { return slices.Equal(ix.List, y.List) }

func (ix *Indices) find(node string) (int, bool) {
	return slices.BinarySearchFunc(ix.List, node, func(i Index, node string) int { return cmp.Compare(i.Node, node) })
}

func (ix *Indices) of(node string) (uint16, bool) {
	i, known := ix.find(node)
	if !known {
		return 0, false
	}
	return ix.List[i].Index, true
}

// mostIndices are kept, of nodes that are there and that were.
const mostIndices = 1 << 15

// with returns indices that all peers have: ix itself if it has them.
func (ix *Indices) with(peers *world.Peers) *Indices {
	var fresh []string
	for _, p := range peers.Nodes {
		if _, known := ix.of(p.Name); !known {
			fresh = append(fresh, p.Name)
		}
	}
	if len(fresh) == 0 {
		return ix
	}
	out := &Indices{slices.Clone(ix.List)}
	if len(out.List)+len(fresh) > mostIndices {
		out.List = slices.DeleteFunc(out.List, func(i Index) bool { return !has(peers, i.Node) })
	}
	used := map[uint16]bool{}
	var last uint16
	for _, i := range out.List {
		used[i.Index], last = true, max(last, i.Index)
	}
	for _, node := range fresh {
		if len(used) == 1<<16-1 {
			break // told with the peer, which has none
		}
		for last++; last == 0 || used[last]; last++ { // those that were free longest come first
		}
		used[last] = true
		at, _ := out.find(node)
		out.List = slices.Insert(out.List, at, Index{node, last})
	}
	return out
}

func has(peers *world.Peers, node string) bool {
	_, found := slices.BinarySearchFunc(peers.Nodes, node, func(n *world.Node, name string) int { return cmp.Compare(n.Name, name) })
	return found
}

// keptIndices is what is kept of indices, by node.
var keptIndices = journal.Kept[Indices]{Name: "egress/nodes", Own: allocated, Changed: changedIndices, Read: readIndices}.Kind()

type keptIndex struct {
	Index uint16 `json:"index"`
}

func changedIndices(last, now *Indices, tell func(journal.Change)) {
	if last == nil {
		last = &Indices{}
	}
	for _, i := range now.List {
		if was, had := last.of(i.Node); !had || was != i.Index {
			tell(journal.Change{Key: i.Node, Had: had, Value: keptIndex{i.Index}})
		}
	}
	for _, i := range last.List {
		if _, left := now.of(i.Node); !left {
			tell(journal.Change{Key: i.Node, Had: true})
		}
	}
}

func readIndices(values []journal.Value, _ []string) (*Indices, []journal.Damage) {
	out := &Indices{}
	var wrong []journal.Damage
	used := map[uint16]bool{}
	for _, v := range values {
		var kept keptIndex
		if v.Key == "" || json.Unmarshal(v.JSON, &kept) != nil || kept.Index == 0 || used[kept.Index] {
			wrong = append(wrong, journal.Damage{Key: v.Key, Why: "it is no index of a node"})
			continue
		}
		used[kept.Index] = true
		at, twice := out.find(v.Key)
		if twice {
			wrong = append(wrong, journal.Damage{Key: v.Key, Why: "it is there twice"})
			continue
		}
		out.List = slices.Insert(out.List, at, Index{v.Key, kept.Index})
	}
	if len(out.List) == 0 {
		return nil, wrong
	}
	return out, wrong
}
