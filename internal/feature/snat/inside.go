package snat

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/world"
)

// madeOf is all that insides depends on.
type madeOf struct {
	node   *world.Node
	peers  *world.Peers
	config *world.Config
}

type insideMade struct {
	all  []netip.Prefix
	sets []*nft.Set // of each family
}

// insides returns where pods keep their addresses, and as sets.
func insides(w *world.World) *insideMade {
	m := &insideMade{all: w.Inside()}
	for _, f := range nft.Families {
		m.sets = append(m.sets, &nft.Set{Name: inside(f), Type: f.AddrType(), Interval: true, Elements: nft.Prefixes(ofFamily(f, m.all))})
	}
	return m
}
