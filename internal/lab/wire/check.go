package wire

import (
	"fmt"
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/world"
)

// checkSources has the port of node i, in the calling thread's namespace, take from
// the node only what has one of its addresses as its source. Neighbour discovery
// passes, as in a cloud that answers it.
func checkSources(i int, node plan.Node) error {
	g := gate.Gate{Link: nodePort(i), Neighbour: world.MAC(mac(nodeMAC, i)).LinkLocal()}
	for _, a := range node.Addresses {
		g.Sources = append(g.Sources, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	changes, _ := gate.Diff(nil, []gate.Gate{g}, func(string) bool { return true })
	for _, c := range changes {
		if err := c.Apply(); err != nil {
			return fmt.Errorf("sourceCheck needs tcx, as Linux 6.6 and later have: %w", err)
		}
	}
	return nil
}
